"""Methods that fail, and checks that fail behind the last prompt: what is said, and that nothing is lost."""

import json

import pytest
from builders import CRASHING
from stores import stored

from specbench.benchmark import runner


@pytest.mark.parametrize("kind", ["list", "range"])
def test_a_round_takes_any_sequence_of_ids(specbench, profile, tmp_path, kind):
    plugin = tmp_path / "listy.py"
    text = CRASHING.format(memory=False).replace("import Auto", "import Round, Auto")
    sequence = {"list": "list(part.tokens)", "range": "range(part.tokens[0], part.tokens[0] + 1)"}[kind]
    rounds = f"for part in super().generate(request): yield Round(tokens={sequence})"
    text = text.replace("yield from super().generate(request)", rounds).replace("== 3", "== 99")
    plugin.write_text(
        text.replace("    def open", "    def lossless(self, options): return True\n    def open")
    )
    done = specbench("run", "crashing", "--profile", profile(), "--plugin", plugin, "--json")
    assert done.code == 0, done.err
    assert done.json["methods"]["crashing"]["exact_match"] == 1.0


def test_a_record_that_cannot_be_written_ends_its_method_alone(specbench, profile, tmp_path, monkeypatch):
    """A text that JSON cannot hold, as a tokenizer may make one."""
    rows = [{"question_id": n, "category": "c", "turns": ["hi"]} for n in range(2)]
    (tmp_path / "single.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = profile(workload={"prompts": str(tmp_path / "single.jsonl")})
    from transformers import PreTrainedTokenizerFast

    decode, seen = PreTrainedTokenizerFast.decode, []

    def spoils(self, *arguments, **named):
        seen.append(1)
        return "\udc80" if len(seen) == 1 else decode(self, *arguments, **named)

    monkeypatch.setattr(PreTrainedTokenizerFast, "decode", spoils)
    done = specbench("run", "speculative", "edge_baseline", "--profile", path, "--json")
    assert done.code == 7, done.err
    assert "surrogates not allowed" in done.err
    assert len(done.json["methods"]) == 2


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            "specbench.benchmark.identity.divergences",
            "texts could not be held against the control's: OSError: no room",
        ),
        ("specbench.roles.edge.EdgeModel.audit", "no longer run a forward pass: OSError('no room')"),
        (
            "specbench.benchmark.other_models._roots",
            "models in the process could not be looked at: OSError",
        ),
    ],
)
def test_a_check_that_fails_behind_the_last_prompt_loses_no_run(
    specbench, profile, tmp_path, monkeypatch, broken, told
):
    path = profile(workload={"limit": 1, "warmup": 0})
    measure = runner.Runner._measure

    def fails(*arguments, **named):
        raise OSError("no room")

    def measures(self, monitor):
        measure(self, monitor)
        monkeypatch.setattr(broken, fails)

    monkeypatch.setattr(runner.Runner, "_measure", measures)
    done = specbench("run", "speculative", "--profile", path, "--json")
    run = stored(tmp_path)
    assert len(run.generations) == 4
    assert done.json["methods"].keys() == {"speculative", "cloud_optimized_baseline"}
    assert any(told in note for note in done.json["notes"])
    assert run.manifest.status == "failed"
    assert done.code in (1, 7)
    monkeypatch.undo()
    monkeypatch.setenv("SPECBENCH_RUNS", str(tmp_path / "runs"))
    if "precision" not in str(done.json["notes"]):
        assert specbench("run", "speculative", "--profile", path, "--resume", run.manifest.run_id).code == 0


CRASH_IN_A_LIBRARY = """
import json

from specbench.api import Decoder, Method, hookimpl

class Crash(Method):
    name, summary, roles = "crash", "fails in a library", ("cloud",)
    api_version = 4

    def open(self, edge, cloud, options):
        target = cloud.target(options)

        class Fails(Decoder):
            def generate(self, request):
                json.loads("{nope")
                yield target.begin(request)

        return Fails()

@hookimpl
def specbench_method() -> Method:
    return Crash()
"""


@pytest.mark.parametrize("warmup", [0, 1])
def test_an_error_in_a_plugin_names_its_own_line_and_ends_a_run_that_has_nothing_else_to_measure(
    specbench, profile, tmp_path, warmup
):
    plugin = tmp_path / "crash.py"
    plugin.write_text(CRASH_IN_A_LIBRARY)
    command = ["run", "crash", "--profile", profile(workload={"warmup": warmup}), "--plugin", plugin]
    done = specbench(*command)
    assert done.code == 7
    assert "(crash.py:15, in generate; raised in decoder.py:" in done.err
    assert "Traceback" not in done.err
    assert "every method but the control failed" in done.err
    run = stored(tmp_path)
    assert len(run.generations) < 3, "the control is not measured in full"
    (failure,) = run.manifest.failures
    assert "Traceback" in failure.traceback
    assert f'{plugin}", line 15, in generate' in failure.traceback
    shown = specbench("--debug", *command)
    assert f'{plugin}", line 15, in generate' in shown.err
    beside = specbench(*command, "edge_baseline", "--json")
    assert beside.code == 7
    assert beside.json["methods"]["edge_baseline"]["generations"] == 4, "the others are measured"
