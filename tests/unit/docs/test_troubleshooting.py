"""Every message that the page on troubleshooting quotes in a title is one that the code can say."""

import ast
import re

import pytest
from repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [
    quote for title in re.findall(r"^### (.+)$", PAGE, re.MULTILINE) for quote in re.findall("`(.+?)`", title)
]


def texts():
    """All string literals of the code, with a gap for what is put in."""
    for path in (REPOSITORY / "specbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.fixture(scope="module")
def said():
    return "\n\n".join(texts())


def test_messages_are_quoted():
    assert len(QUOTED) > 25


@pytest.mark.parametrize("quote", QUOTED)
def test_the_code_says_what_is_quoted(said, quote):
    for part in filter(None, map(str.strip, quote.split("..."))):
        assert part in said
