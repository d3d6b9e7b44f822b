"""The generated parts of the reference say what the code says."""

import re
from collections import Counter

import generate
import pytest
from repository import REPOSITORY

from specbench.profile.schema import Profile

STALE = "stale: run `python docs/generate.py`"


@pytest.mark.parametrize(
    "page", generate.pages(), ids=lambda page: page.relative_to(generate.REFERENCE).as_posix()
)
def test_a_page_says_what_the_code_says(page):
    assert page.read_text(encoding="utf-8") == generate.generated(page), STALE


def test_every_command_and_every_part_of_the_profile_is_on_one_page():
    text = "".join(page.read_text(encoding="utf-8") for page in generate.pages())
    marks = re.findall(r"<!-- generated: (command|profile) (.+?) -->", text)
    wanted = [("command", name) for name in generate.commands()] + [
        ("profile", name) for name in Profile.model_fields
    ]
    assert Counter(marks) == Counter(wanted)


def test_keys_are_looked_for_in_parts_of_parts():
    keys = {row[0] for name in Profile.model_fields for row in generate.profile_rows(name)}
    assert {
        "`edge.model`",
        "`cloud.batch.wait_ms`",
        "`cluster.cloud.gpus`",
        "`speculative.gate.threshold`",
    } <= keys
    assert {"`methods`", "`link.rtt_ms`"} <= keys


@pytest.mark.parametrize("part", Profile.model_fields)
def test_every_key_of_a_profile_has_a_type_a_default_and_a_meaning(part):
    assert all(all(row) for row in generate.profile_rows(part))


@pytest.mark.parametrize("name", generate.commands())
def test_every_option_of_a_command_has_a_meaning(name):
    for row in generate.command_rows(name):
        assert row[2], row[0]


def test_the_page_on_development_says_how_to_write_them():
    assert "python docs/generate.py" in (REPOSITORY / "docs" / "development.md").read_text(encoding="utf-8")
