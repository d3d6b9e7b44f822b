"""The code blocks of the documentation, and the commands in them.

A block that cannot be executed by a test says why on the line above it: `<!-- not run here: the reason -->`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from repository import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
FENCE = re.compile(
    r"(?P<mark>^ *<!-- not run here: (?P<reason>.+?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its text without indentation, why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page that name a language."""
    text, found = page.read_text(encoding="utf-8"), []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("indent")) + 1
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(page, line, match["language"], body, match["reason"]))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def explained_method() -> str:
    """The code of the method that docs/how-to/write-a-method.md begins with."""
    page = REPOSITORY / "docs" / "how-to" / "write-a-method.md"
    return next(block.text for block in blocks(page) if block.language == "python")


def commands(block: Block) -> list[str]:
    """The commands of a block one by one: continued lines joined, comments and what is printed left out."""
    text = block.text.replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in text.splitlines()]
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    if "<<" in text:
        return [block.text]
    found = [part.strip() for line in lines for part in line.split(" && ")]
    return [" ".join(each.split()) for each in found if each and not each.startswith("#")]
