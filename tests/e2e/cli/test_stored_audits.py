"""`check-dtype --run` and `compare` judge stored runs by the audits that they kept."""

import json

from specbench.results.store import RunStore


def edit(tmp_path, run_id, change):
    path = tmp_path / "runs" / run_id / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_two_runs_are_held_against_each_other_and_the_first_offender_is_named(specbench, profile, tmp_path):
    specbench("run", "cloud_optimized_baseline", "--profile", profile())
    specbench("run", "speculative", "--profile", profile())
    narrow = profile("narrow", edge={"dtype": "bfloat16"}, cloud={"dtype": "bfloat16"})
    specbench("run", "cloud_optimized_baseline", "--profile", narrow)
    wide, both, other = RunStore(tmp_path / "runs").ids()
    same = specbench("check-dtype", "--run", wide, "--run", both, "--json")
    assert (same.code, same.json["between"][0]["verdict"]) == (0, "ok"), (
        "an edge that only one loads is no matter"
    )
    done = specbench("check-dtype", "--run", wide, "--run", other, "--json")
    assert (done.code, done.json["verdict"]) == (1, "differs")
    assert [report["verdict"] for report in done.json["runs"]] == ["ok", "ok"]
    (between,) = done.json["between"]
    subjects = [finding["subject"] for finding in between["findings"]]
    assert subjects[:2] == ["cloud: declared dtype", "cloud: model.embed_tokens.weight"]
    assert between["findings"][0]["mend"].endswith("--set cloud.dtype=float32")


def test_runs_whose_arithmetic_differs_are_not_compared(specbench, profile, tmp_path):
    for _ in range(2):
        specbench("run", "cloud_optimized_baseline", "--profile", profile())
    first, second = RunStore(tmp_path / "runs").ids()
    assert specbench("compare", first, second).code == 0
    name = "torch.backends.cuda.matmul.allow_tf32"
    edit(tmp_path, second, lambda document: document["switches"]["start"].update({name: True}))
    done = specbench("compare", first, second)
    assert done.code == 8
    assert f"{name} at the start is False and True" in done.err


def test_a_run_that_was_stored_before_there_was_an_audit_is_unknown_and_never_ok(specbench, profile, tmp_path):
    specbench("run", "cloud_optimized_baseline", "--profile", profile())
    specbench("run", "cloud_optimized_baseline", "--profile", profile())
    old, new = RunStore(tmp_path / "runs").ids()

    def as_it_was(document):
        for key in ("switches", "switch_changes", "audits_at_end"):
            del document[key]
        later = ("wrong", "integers", "widened", "quantization", "adapters", "tied", "offloaded", "attention")
        for audit in document["audits"]:
            for key in later:
                del audit[key]

    edit(tmp_path, old, as_it_was)
    shown = specbench("compare", old, "--json")
    assert f"precision of run {old} is unknown: it was stored without a full audit" in shown.json["notes"]
    done = specbench("check-dtype", "--run", old, "--json")
    assert (done.code, done.json["verdict"]) == (1, "unknown")
    between = specbench("check-dtype", "--run", new, "--run", old, "--json").json["between"][0]
    assert between["verdict"] == "unknown"
    assert f"run {old} was stored with no full audit" in between["findings"][0]["message"]


def test_a_run_that_was_killed_is_unknown_since_nobody_looked_at_its_end(specbench, profile, tmp_path):
    specbench("run", "cloud_optimized_baseline", "--profile", profile())
    (run_id,) = RunStore(tmp_path / "runs").ids()

    def as_killed(document):
        del document["switches"]["end"]
        document.update(audits_at_end=[], status="running")

    edit(tmp_path, run_id, as_killed)
    done = specbench("check-dtype", "--run", run_id, "--json")
    assert (done.code, done.json["verdict"]) == (1, "unknown")
    assert "no switches at its end" in " ".join(f["message"] for f in done.json["runs"][0]["findings"])


def test_stored_runs_and_profiles_are_not_asked_about_at_once(specbench):
    done = specbench("check-dtype", "--run", "x", "--load")
    assert done.code == 2
    assert "leave out" in done.err
