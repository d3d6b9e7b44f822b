"""`specbench run` and `compare`, end to end on the tiny pair."""

import json
import os
import signal
import subprocess
import sys

import pytest
from builders import CRASHING
from stores import stored
from waiting import wait_until
from warm import WarmPopen

from specbench.api import AutoregressiveDecoder
from specbench.results.store import RunStore

ALL = ["edge_baseline", "cloud_baseline", "cloud_optimized_baseline", "speculative"]
FIGURES = {
    "tokens", "ttft_ms", "tpot_ms", "tokens_per_second", "acceptance_rate", "acceptance_length",
    "speedup_vs_control", "speedup_vs_cloud_baseline", "exact_match", "peak_rss_bytes", "lossless",
}  # fmt: skip


def test_four_methods_run_interleaved_and_the_table_names_them(specbench, profile, tmp_path):
    done = specbench("run", *ALL, "--profile", profile())
    assert done.code == 0, done.err
    assert all(name in done.out for name in ALL)
    assert "co-located" in done.out
    run = stored(tmp_path)
    assert run.manifest.status == "finished"
    order = list(dict.fromkeys((record.prompt_id, record.method) for record in run.generations))
    prompts = [prompt for prompt, _ in order]
    assert prompts == sorted(prompts, key=prompts.index), "a prompt is asked of all methods in a row"
    assert len(order) == 3 * 4
    assert len({tuple(m for p, m in order if p == prompt) for prompt in prompts}) > 1, "in a seeded order"


def test_a_prompt_of_two_turns_makes_two_records_with_the_methods_own_reply_between(
    specbench, profile, tmp_path
):
    specbench("run", "speculative", "--profile", profile())
    records = [r for r in stored(tmp_path).generations if (r.method, r.prompt_id) == ("speculative", "1")]
    assert [record.turn for record in records] == [0, 1]
    assert records[1].prompt_tokens >= records[0].prompt_tokens + len("and now?")
    control = [r for r in stored(tmp_path).generations if r.method != "speculative" and r.prompt_id == "1"]
    assert control[1].prompt_sha256 == records[1].prompt_sha256, "equal replies make equal second prompts"


def test_the_control_comes_along_unless_only_is_given(specbench, profile):
    path = profile()
    with_control = specbench("run", "speculative", "--profile", path, "--json").json
    assert list(with_control["methods"]) == ["speculative", "cloud_optimized_baseline"]
    assert with_control["methods"]["speculative"]["speedup_vs_control"] > 0
    alone = specbench("run", "speculative", "--profile", path, "--json", "--only").json
    assert list(alone["methods"]) == ["speculative"]
    assert alone["control"] is None
    assert alone["methods"]["speculative"]["speedup_vs_control"] is None


def test_speculative_text_is_the_controls(specbench, profile):
    rows = specbench("run", "speculative", "cloud-baseline", "--profile", profile(), "--json").json["methods"]
    assert rows["speculative"]["exact_match"] == 1.0
    assert rows["cloud_baseline"]["exact_match"] == 1.0


def test_compare_shows_the_newest_run_as_documented_json_alone_on_stdout(specbench, profile):
    specbench("run", *ALL, "--profile", profile())
    shown = specbench("compare", "--json")
    assert shown.code == 0
    document = shown.json
    assert document["profile"] == "tiny"
    assert document["control"] == "cloud_optimized_baseline"
    assert set(document["methods"]) == set(ALL)
    for row in document["methods"].values():
        assert set(row) >= FIGURES
    assert document["methods"]["edge_baseline"]["lossless"] is None
    assert document["methods"]["edge_baseline"]["acceptance_rate"] is None
    assert 0 <= document["methods"]["speculative"]["acceptance_rate"] <= 1
    assert document["methods"]["cloud_baseline"]["speedup_vs_cloud_baseline"] == 1.0


def test_runs_of_different_budgets_are_not_compared(specbench, profile, tmp_path):
    path = profile()
    specbench("run", "cloud_optimized_baseline", "--profile", path, "--max-new-tokens", 4)
    specbench("run", "cloud_optimized_baseline", "--profile", path, "--max-new-tokens", 5)
    done = specbench("compare", *RunStore(tmp_path / "runs").ids())
    assert done.code == 8
    assert "workload.max_new_tokens is 4 and 5" in done.err
    assert done.out == ""


def test_different_precision_is_refused_before_anything_is_loaded(specbench, profile, tmp_path):
    done = specbench("run", "speculative", "--profile", profile(), "--set", "cloud.dtype=float16")
    assert done.code == 1
    assert "edge.dtype is float32 and cloud.dtype is float16" in done.err
    assert "precision.parity=per_role" in done.err
    assert not (tmp_path / "runs").exists()


def test_different_precision_on_purpose_runs_and_is_noted(specbench, profile):
    path = profile(precision={"parity": "per_role"}, edge={"dtype": "bfloat16"})
    done = specbench("run", "speculative", "--profile", path)
    assert done.code == 0, done.err
    assert "differ in precision on purpose" in done.out


def test_sampling_runs_for_the_baselines_and_repeats_with_the_seed(specbench, profile, tmp_path):
    path = profile(decoding={"temperature": 0.9, "top_p": 0.95})
    texts = []
    for _ in range(2):
        assert specbench("run", "cloud_baseline", "--profile", path).code == 0
        texts.append([record.tokens for record in stored(tmp_path).generations])
    assert texts[0] == texts[1]


HUNGRY_BYTES = 400 << 20


def test_isolated_methods_show_the_memory_of_their_own_and_not_what_another_holds(specbench, profile, tmp_path):
    plugin = tmp_path / "hungry.py"
    text = CRASHING.format(memory=False).replace("== 3", "== 99")
    plugin.write_text(
        text.replace("        class Fails", f"        cloud.held = b'x' * {HUNGRY_BYTES}\n        class Fails")
    )
    words = ("run", "crashing", "--profile", profile(), "--limit", 1, "--plugin", plugin, "--json")
    shared = specbench(*words).json["methods"]
    together = abs(shared["crashing"]["peak_rss_bytes"] - shared["cloud_optimized_baseline"]["peak_rss_bytes"])
    assert together < HUNGRY_BYTES / 2
    done = specbench(*words, "--isolate")
    assert done.code == 0, done.err
    own = {name: row["peak_rss_bytes"] for name, row in done.json["methods"].items()}
    assert own["crashing"] - own["cloud_optimized_baseline"] > HUNGRY_BYTES / 2
    assert stored(tmp_path).manifest.isolated_rss_bytes == own
    note = "peak RSS of crashing, cloud_optimized_baseline was measured in its own process (--isolate)"
    assert note in done.json["notes"]


def test_checks_between_rounds_are_off_the_clock(specbench, profile, tmp_path, monkeypatch):
    """On a clock that only the checks move forward, every round arrives at once."""
    clock = {"ms": 0.0}
    monkeypatch.setattr("specbench.benchmark.answering.now_ms", lambda: clock["ms"])
    monkeypatch.setattr(AutoregressiveDecoder, "check", lambda self: clock.update(ms=clock["ms"] + 50))
    specbench("run", "cloud_optimized_baseline", "--profile", profile(workload={"limit": 1}))
    (record, *_) = stored(tmp_path).generations
    assert len(record.rounds) > 1
    assert clock["ms"] >= 50 * len(record.rounds)
    assert set(record.arrival_ms) == {0.0}


def test_checks_between_rounds_can_be_switched_off(specbench, profile, monkeypatch):
    def fails(self):
        raise AssertionError("the cache is wrong")

    monkeypatch.setattr(AutoregressiveDecoder, "check", fails)
    path = profile(workload={"limit": 1})
    checked = specbench("run", "cloud_optimized_baseline", "--profile", path)
    assert (checked.code, "the cache is wrong" in checked.err) == (7, True)
    unchecked = ["--set", "engine.check_cache=false"]
    assert specbench("run", "cloud_optimized_baseline", "--profile", path, *unchecked).code == 0


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(models, profile, specbench, tmp_path):
    rows = [{"question_id": n, "category": "c", "turns": ["hello"]} for n in range(400)]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = profile(workload={"prompts": str(tmp_path / "many.jsonl"), "limit": None, "max_new_tokens": 32})
    command = ["run", "speculative", "cloud_baseline", "--profile", str(path), "--json"]
    process = WarmPopen(
        [sys.executable, "-c", "from specbench.cli import main; main()", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SPECBENCH_RUNS": str(tmp_path / "runs")},
    )
    wait_until(lambda: any(path.stat().st_size for path in (tmp_path / "runs").glob("*/generations.jsonl")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err.decode()
    assert "Traceback" not in err.decode()
    assert out, err.decode()
    document = json.loads(out)
    run = stored(tmp_path)
    assert run.manifest.status == "interrupted"
    assert 0 < len(run.generations) < 1200
    assert (
        f"run {run.manifest.run_id} is interrupted; complete it with "
        f"'specbench run --resume {run.manifest.run_id}'"
    ) in document["notes"]


def test_a_runs_folder_that_cannot_be_written_is_one_error(specbench, profile, tmp_path):
    (tmp_path / "file").write_text("")
    done = specbench("run", "speculative", "--profile", profile(), "--runs-dir", tmp_path / "file")
    assert done.code == 5
    assert "cannot be written" in done.err


def test_spec_bench_questions_are_read_from_a_file(specbench, profile, tmp_path):
    rows = [{"question_id": 87, "category": "writing", "turns": ["Write."], "reference": ["x"]}]
    (tmp_path / "q.jsonl").write_text(json.dumps(rows[0]))
    done = specbench(
        "run", "edge_baseline", "--profile", profile(), "--prompts", tmp_path / "q.jsonl", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["methods"]["edge_baseline"]["generations"] == 1


def test_ctrl_c_that_a_library_swallows_ends_the_run_before_the_next_prompt(specbench, profile, tmp_path):
    plugin = tmp_path / "deaf.py"
    plugin.write_text(
        """
import signal

from specbench.api import AutoregressiveDecoder, Method, hookimpl

class Deaf(Method):
    name, summary, roles = "deaf", "swallows Ctrl-C", ("cloud",)
    api_version = 4

    def open(self, edge, cloud, options):
        class Swallows(AutoregressiveDecoder):
            def generate(self, request):
                try:
                    signal.raise_signal(signal.SIGINT)
                except BaseException:
                    pass
                yield from super().generate(request)

        return Swallows(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Deaf()
"""
    )
    path = profile(workload={"warmup": 0})
    done = specbench("run", "deaf", "--only", "--profile", path, "--plugin", plugin)
    assert done.code == 130
    assert len(stored(tmp_path).generations) in (1, 2), "one prompt, whatever its turns"


def test_a_pipe_that_closes_early_is_no_error():
    script = f"{sys.executable} -c 'from specbench.cli import main; main()' profiles | head -c 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=300)
    assert done.stderr == b""


@pytest.mark.slow
def test_without_a_compiler_the_models_run_eagerly_and_the_manifest_says_so(
    specbench_process, profile, tmp_path
):
    path = profile(engine={"kind": "compiled"})
    away = {"CXX": str(tmp_path / "no-compiler"), "SPECBENCH_CACHE": str(tmp_path / "cache")}
    outcome = specbench_process("run", "speculative", "--profile", path, "--limit", "1", **away)
    assert outcome.code == 0, outcome.err
    assert "the cloud model runs eagerly, for it cannot be compiled: no C++ compiler found" in outcome.err
    manifest = json.loads(next((tmp_path / "runs").glob("*/manifest.json")).read_text())
    assert manifest["profile"]["engine"]["kind"] == "compiled"
    assert manifest["engines"] == {"edge": "eager", "cloud": "eager"}
    assert "eager engine" in outcome.out
    arguments = ("--profile", path, "--set", "engine.batch_invariant=true")
    refused = specbench_process("run", "speculative", *arguments, **away)
    assert refused.code == 4
    assert "cannot be batch-invariant: no C++ compiler found" in refused.err


@pytest.mark.slow
def test_a_batch_invariant_run_is_bitwise_lossless(specbench, profile, tmp_path):
    path = profile(engine={"kind": "compiled", "batch_invariant": True})
    done = specbench("run", "speculative", "--profile", path, "--json")
    assert done.code == 0, done.err
    assert done.json["methods"]["speculative"]["exact_match"] == 1
    assert done.json["divergences"] == []
    assert "compiled engine, batch-invariant" in done.json["setting"]
    assert stored(tmp_path).manifest.engines == {"edge": "compiled", "cloud": "compiled"}
