"""What the code blocks of the documentation name exists: commands, options, profile keys."""

import ast
import itertools
import json
import re
import shlex

import generate
import pytest
import yaml
from blocks import PAGES, all_blocks, commands

from specbench.profile.cost_table import Costs
from specbench.profile.loading import _keys
from specbench.profile.schema import Profile

PROGRAMS = ("specbench", "pip", "pytest", "python", "ruff", "mkdocs", "vllm")
KEYS, COST_KEYS = set(_keys(Profile, "")), set(_keys(Costs, ""))
WITH_COSTS = ("replay", "plan")
COMMANDS = generate.commands()
CALLS = [
    (block.name, call)
    for block in all_blocks("bash", "console")
    for call in commands(block)
    if call.startswith("specbench ") and "\n" not in call
]


def options(name):
    return {option for param in COMMANDS[name].params for option in (*param.opts, *param.secondary_opts)}


def test_blocks_and_calls_are_found():
    assert len(CALLS) > 60
    assert any("--over link.rtt_ms" in call for _, call in CALLS)
    assert any(block.reason for block in all_blocks("bash"))


@pytest.mark.parametrize(("place", "call"), CALLS, ids=[place for place, _ in CALLS])
def test_a_command_has_the_options_that_a_page_gives_it(place, call):
    words = shlex.split(re.sub(r"\s[>|<].*", "", call))[1:]
    words = words[1:] if words[0] == "--debug" else words
    if words in (["--help"], ["--version"], ["COMMAND", "--help"], ["profiles"], ["models"]):
        return
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)
    assert name, f"there is no such command: {call}"
    given = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
    known = options(name) | (options(name.split()[1]) if name in ("submit run", "submit sweep") else set())
    assert given <= known
    keys = {after.partition("=")[0] for before, after in itertools.pairwise(words) if before == "--set"}
    allowed = COST_KEYS if name in WITH_COSTS else KEYS
    assert {key for key in keys if not key.startswith("methods.")} <= allowed


WORKFLOWS = [block for block in all_blocks("yaml") if "\njobs:" in block.text]


@pytest.mark.parametrize("block", WORKFLOWS, ids=lambda block: block.name)
def test_a_workflow_of_ci_has_steps_whose_commands_there_are(block):
    read = yaml.safe_load(block.text)
    assert set(read) == {"name", True, "jobs"}  # YAML 1.1 reads `on` as true
    steps = [step for job in read["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    calls = [step["run"] for step in steps if step.get("run", "").startswith("specbench ")]
    assert calls
    for call in calls:
        test_a_command_has_the_options_that_a_page_gives_it(block.name, call)


@pytest.mark.parametrize(
    "block", [each for each in all_blocks("yaml") if each not in WORKFLOWS], ids=lambda block: block.name
)
def test_yaml_says_what_a_profile_or_a_cost_table_can_say(block):
    values = yaml.safe_load(block.text)
    known = set(Profile.model_fields) | set(Costs.model_fields) | {"extends"}
    assert values.keys() <= known
    paths = {f"{part}.{key}" for part, below in values.items() if isinstance(below, dict) for key in below}
    free = {path for path in paths if path.startswith("methods.")}
    assert paths - free <= KEYS | COST_KEYS


@pytest.mark.parametrize("block", all_blocks("python"), ids=lambda block: block.name)
def test_python_can_be_read(block):
    ast.parse(block.text)


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.name)
def test_json_can_be_read(block):
    for line in block.text.splitlines() if "\n{" in block.text else [block.text]:
        json.loads(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_stand_in_fences_that_a_test_reads(page):
    """But for the two lines of the README that `.ci/run` has word for word."""
    outside = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(rf"^    (?:\$ )?(?:{'|'.join(PROGRAMS)}) .*$", outside, re.MULTILINE)
    assert [line for line in found if page.name != "README.md" or " && " not in line] == []
