"""The README and the pages that it leads to name what there is: nothing public is left out."""

import re

import pytest
import typer.main
import yaml
from repository import REPOSITORY

from specbench.cli import app
from specbench.errors import INTERNAL_ERROR, ExitCode
from specbench.profile import list_profiles
from specbench.registry import discover

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
REFERENCE = REPOSITORY / "docs" / "reference"
MOST_LINES = 150


def reference(page):
    return (REFERENCE / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "page"),
    [
        *((name, "shipped-profiles.md") for name in list_profiles()),
        *((name, "methods.md") for name in discover().methods),
    ],
)
def test_every_profile_and_method_is_described(name, page):
    assert f"| `{name}` |" in reference(page)


@pytest.mark.parametrize("status", [*map(int, ExitCode), INTERNAL_ERROR])
def test_every_exit_status_is_described(status):
    assert re.search(rf"\| {status} \| [a-z]", reference("exit-status.md"))


@pytest.mark.parametrize(
    "name", [name for name, each in typer.main.get_command(app).commands.items() if not each.hidden]
)
def test_every_command_is_described(name):
    assert f"`{name}`" in README.partition("| to | commands |")[2].partition("\n\n")[0]
    assert f"[`{name}`]" in reference("commands.md") or f"[`{name} " in reference("commands.md")


def test_the_two_set_up_lines_are_what_ci_runs():
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    for line in (
        "pip install -e . && specbench run speculative --profile default",
        'pip install -e ".[dev]" && pytest',
    ):
        assert f"    {line}\n" in README
        assert line in ci


def test_it_is_read_in_a_few_minutes():
    assert len(README.splitlines()) < MOST_LINES


def test_it_says_what_has_never_run_on_a_gpu():
    limits = README.partition("## Supported, and not")[2].partition("\n## ")[0]
    assert "Never run on a GPU" in limits
    for profile in (name for name in list_profiles() if name.startswith("qwen")):
        assert f"`{profile}`" in limits


def test_the_citation_names_this_version():
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == version
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()  # what its schema demands
