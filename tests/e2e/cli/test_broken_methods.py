"""Methods that crash or break the contract in a run end alone, and are named."""

import json

import pytest
from builders import CRASHING
from stores import stored

from specbench.errors import SpecbenchError


@pytest.mark.parametrize(("memory", "reason"), [(False, "ValueError: lost my way"), (True, "memory_optimized")])
def test_a_method_that_crashes_ends_alone(specbench, profile, tmp_path, memory, reason):
    plugin = tmp_path / "crashing.py"
    plugin.write_text(CRASHING.format(memory=memory))
    path = profile(workload={"prompts": str(tmp_path / "single.jsonl"), "warmup": 1})
    rows = [{"question_id": n, "category": "c", "turns": ["hi"]} for n in range(3)]
    (tmp_path / "single.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = specbench("run", "crashing", "speculative", "--profile", path, "--plugin", plugin)
    assert done.code == 7
    assert reason in done.err
    run = stored(tmp_path)
    finished = {name: sum(r.method == name for r in run.generations) for name in run.manifest.methods}
    assert finished == {"crashing": 1, "speculative": 3, "cloud_optimized_baseline": 3}
    assert run.manifest.status == "failed"
    assert [failure.method for failure in run.manifest.failures] == ["crashing"]


@pytest.mark.parametrize("question", ["validate", "lossless", "repeats_control", "precision_changes"])
def test_a_methods_own_mistake_in_what_it_says_of_itself_is_named_as_its_own(
    specbench, profile, tmp_path, question
):
    plugin = tmp_path / "mistaken.py"
    text = CRASHING.format(memory=False)
    plugin.write_text(
        text.replace("    def open", f"    def {question}(self, options): return 1 / 0\n    def open")
    )
    command = ["run", "crashing", "--profile", profile(), "--plugin", plugin]
    done = specbench(*command)
    assert done.code == 6, done.err
    assert (
        f"method crashing is broken: ZeroDivisionError: division by zero (mistaken.py:8, in {question})"
        in done.err
    )
    assert "Traceback" not in done.err
    with pytest.raises(SpecbenchError) as caught:
        specbench("--debug", *command)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_broken_plugin_file_shows_its_traceback_where_its_method_is_asked_for(specbench, profile, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("import nothing_of_this_name")
    done = specbench("run", "mine", "--profile", profile(), "--plugin", plugin)
    assert done.code == 6, done.err
    assert "there is no method 'mine', and" in done.err
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ("yield Round(tokens=(5,) * 99)", "committed 87 tokens after a stop token or beyond its budget"),
        ("yield Round(tokens=(5, 1, 6))", "committed tokens after a stop token"),
        ("yield Round(tokens=(1,)); yield Round(tokens=(6,))", "committed 1 tokens after a stop token"),
        ("yield Round(tokens=(5,))", "ended before a stop token and before its budget"),
        ("yield Round(tokens=())", "a round without tokens"),
        ("yield Round(tokens=(5.0,))", "no Python ints, but of type float"),
        ("yield Round(tokens=(-5,))", "yielded the token id -5"),
        ("yield None", "yielded a NoneType, and no Round"),
        ("yield Round(tokens=(5,), drafted=1.0)", "drafted is 1.0, and no count"),
        ("yield Round(tokens=(5,), draft_ms='3')", "draft_ms is '3', and no time in milliseconds"),
        ("yield Round(tokens=(5,), verify_ms=float('nan'))", "verify_ms is nan"),
        ("yield Round(tokens=(5,), drafted=9, accepted=2)", "accepted 2 drafted tokens and committed 1"),
        ("yield Round(tokens=(5,), drafted=1, accepted=2)", "accepted 2 of 1 drafted tokens"),
        ("yield Round(tokens=(5, 6), drafted=4, accepted=1, depth=0)", "its depth is 0"),
        ("yield from ()", "ended before"),
    ],
)
def test_a_method_that_breaks_the_contract_is_a_failure(specbench, profile, tmp_path, rounds, reason):
    plugin = tmp_path / "broken.py"
    text = CRASHING.format(memory=False).replace("import Auto", "import Round, Auto")
    plugin.write_text(text.replace("yield from super().generate(request)", rounds))
    path = profile(workload={"warmup": 0, "limit": 1}, engine={"check_cache": False})
    done = specbench("run", "crashing", "--profile", path, "--plugin", plugin, "--only")
    assert done.code == 7
    assert reason in done.err
    if rounds.startswith("yield R"):
        has_ended = "ended before" in reason
        assert ("(broken.py:16, in generate)" in done.err) is not has_ended, "where it stood is where to look"
