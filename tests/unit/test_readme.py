"""The README names what there is: nothing public is left out of it."""

from pathlib import Path

import pytest
import typer.main

from specbench.cli import INTERNAL_ERROR, app
from specbench.config import list_profiles
from specbench.errors import ExitCode
from specbench.registry import discover

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*list_profiles(), *discover().methods])
def test_every_profile_and_method_is_described(name):
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("status", [*map(int, ExitCode), INTERNAL_ERROR])
def test_every_exit_status_is_described(status):
    assert f"| {status} |" in README


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)
def test_every_command_is_described(name):
    assert f"| `specbench {name}" in README


def test_the_two_set_up_lines_are_what_ci_runs():
    ci = (Path(__file__).parents[2] / ".ci" / "run").read_text(encoding="utf-8")
    for line in (
        "pip install -e . && specbench run speculative --profile default",
        'pip install -e ".[dev]" && pytest',
    ):
        assert f"    {line}\n" in README
        assert line in ci
