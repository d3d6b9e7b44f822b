"""The pages of docs/ are whole: every public name and JSON key is there, and every link leads somewhere."""

import re
from dataclasses import fields

import pytest
from repository import REPOSITORY

import specbench.api
from specbench.forecast.breakeven import BreakEven
from specbench.forecast.grid import Row
from specbench.forecast.objectives import Choice, Choices
from specbench.profile import list_profiles
from specbench.registry import discover
from specbench.results.derived import (
    Acceptance,
    Agreement,
    CategorySpeedup,
    Comparison,
    MethodSummary,
    Prediction,
    RoundCosts,
)
from specbench.results.spending import Money, RoleEnergy
from specbench.serving_load.figures import Capacity, LoadRow
from specbench.testing import check_method

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


MEMBERS = sorted(
    name for name in {*vars(specbench.api.Method), *specbench.api.Method.__annotations__} if name[0] != "_"
)


@pytest.mark.parametrize("name", specbench.api.__all__)
def test_every_public_name_stands_where_methods_are_explained(name):
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text_of("reference/method-api.md"))


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_of_a_method_is_explained(member):
    assert re.search(rf"^\| `{member}\b", text_of("reference/method-api.md"), re.MULTILINE)


@pytest.mark.parametrize("member", [field.name for field in fields(specbench.api.Round)])
def test_every_figure_of_a_round_is_named(member):
    assert f"`{member}`" in text_of("reference/method-api.md")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("write-a-method", "from_the_prompt"),
        ("write-a-method", "own_suffix"),
        ("beyond-a-drafter", "cascade"),
        ("beyond-a-drafter", "mine"),
    ],
)
def test_a_method_that_is_explained_keeps_the_contract(tmp_path, page, name):
    blocks = re.findall(r"```python\n(.*?)```", text_of(f"how-to/{page}.md"), re.DOTALL)
    file = tmp_path / "method.py"
    file.write_text(next(block for block in blocks if f'"{name}"' in block and "def specbench_method" in block))
    check_method(discover([file]).get(name))


@pytest.mark.parametrize(
    ("part", "title"),
    [
        *((part, "`run` and `compare`") for part in (Acceptance, Agreement, CategorySpeedup, Comparison)),
        *((part, "`run` and `compare`") for part in (MethodSummary, Prediction, RoundCosts)),
        *((part, "`run` and `compare`") for part in (Money, RoleEnergy)),
        *((part, "`sweep`, `replay`, `plan --over`") for part in (Row, BreakEven, Choice, Choices)),
        *((part, "`load`") for part in (LoadRow, Capacity)),
    ],
)
def test_every_key_of_what_json_prints_is_named(part, title):
    section = text_of("reference/files.md").partition(f"### {title}\n")[2].partition("###")[0]
    assert {field.name for field in fields(part)} <= set(re.findall(r'"(\w+)"', section))


@pytest.mark.parametrize("name", [*discover().methods, *list_profiles()])
def test_every_method_and_profile_is_in_the_changelog(name):
    assert f"`{name}`" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "program", sorted((REPOSITORY / "tests" / "perf").glob("*.py")), ids=lambda path: path.name
)
def test_every_measurement_by_hand_is_named(program):
    name = "engine_*.py" if program.name.startswith("engine_") else program.name
    assert f"`{name}" in text_of("development.md")


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in (REPOSITORY / "specbench").glob("*/__init__.py"))
)
def test_every_folder_is_in_the_tree(folder):
    assert f"      {folder}/" in text_of("development.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_page_that_the_code_names_is_there():
    folders = [REPOSITORY / name for name in ("specbench", "plugins", "tests")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    named = {
        name for path in files for name in re.findall(r"docs/[a-z/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []
