"""A method is one file: the one of docs/how-to/write-a-method.md, with every command that takes such files.

`plan` and `load` join this test when they take `--plugin`.
"""

import pytest
from blocks import explained_method

COSTS = "draft: {step_ms: 2.0}\ntarget: {verify_ms: {1: 20.0, 5: 24.0}, prefill_ms: {1: 5.0}}\n"


@pytest.fixture
def plugin(tmp_path):
    """The method that the docs explain, as a file."""
    path = tmp_path / "from_the_prompt.py"
    path.write_text(explained_method())
    assert len(path.read_text().splitlines()) <= 40
    return path


def test_a_method_of_one_file_is_run_and_repeats_the_control(specbench, profile, plugin):
    done = specbench("run", "from_the_prompt", "--profile", profile(), "--plugin", plugin, "--json")
    assert done.code == 0
    row = done.json["methods"]["from_the_prompt"]
    assert row["exact_match"] == 1.0
    assert row["acceptance_length"] >= 1


def test_a_method_of_one_file_is_swept(specbench, profile, plugin):
    words = ("--profile", profile(), "--plugin", plugin, "--over", "speculative.draft_length=1,3", "--json")
    done = specbench("sweep", "from_the_prompt", *words)
    assert done.code == 0
    assert [row["draft_length"] for row in done.json["rows"] if row["method"] == "from_the_prompt"] == [1, 3]


def test_a_method_of_one_file_is_replayed_over_a_trace(specbench, profile, plugin, tmp_path):
    trace, costs = tmp_path / "trace.json", tmp_path / "costs.yaml"
    costs.write_text(COSTS)
    assert specbench("trace", "--profile", profile(), "--out", trace).code == 0
    words = (trace, "--costs", costs, "--plugin", plugin, "--method", "from_the_prompt", "--json")
    done = specbench("replay", *words)
    assert done.code == 0
    assert {row["method"] for row in done.json["rows"]} == {"cloud_optimized_baseline", "from_the_prompt"}
