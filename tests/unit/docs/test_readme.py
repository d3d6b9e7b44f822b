"""The README names what there is: nothing public is left out of it."""

import re

import pytest
import typer.main
from repository import REPOSITORY

from specbench.cli import app
from specbench.errors import INTERNAL_ERROR, ExitCode
from specbench.profile import list_profiles
from specbench.registry import discover
from specbench.testing import check_method

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = (REPOSITORY / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*list_profiles(), *discover().methods])
def test_every_profile_and_method_is_described(name):
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("status", [*map(int, ExitCode), INTERNAL_ERROR])
def test_every_exit_status_is_described(status):
    assert re.search(rf"\| {status} \| [a-z]", README)


@pytest.mark.parametrize(
    "name", [name for name, each in typer.main.get_command(app).commands.items() if not each.hidden]
)
def test_every_command_is_described(name):
    assert f"| `specbench {name}` |" in README
    assert f"\n### {name}\n\n    specbench {name}" in COMMANDS


def test_the_two_set_up_lines_are_what_ci_runs():
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    for line in (
        "pip install -e . && specbench run speculative --profile default",
        'pip install -e ".[dev]" && pytest',
    ):
        assert f"    {line}\n" in README
        assert line in ci


def test_the_method_that_it_shows_keeps_the_contract(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(README.partition("```python\n")[2].partition("```")[0])
    check_method(discover([file]).get("mine"))
