"""Runs that are resumed: what is kept, what is done, and what is refused."""

from builders import CRASHING
from stores import stored

from specbench.testing import tiny_llama


def test_a_resumed_run_does_only_what_is_missing_and_keeps_the_rest(specbench, profile, tmp_path):
    """A kill cuts the second method's block of two turns in the middle of its second line."""
    path = profile()
    specbench("run", "speculative", "--profile", path)
    whole = stored(tmp_path)
    file = tmp_path / "runs" / whole.manifest.run_id / "generations.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    second_turn = [index for index, record in enumerate(whole.generations) if record.turn == 1][-1]
    file.write_bytes(b"".join(lines[:second_turn]) + lines[second_turn][:20])
    kept = b"".join(lines[: second_turn - 1])
    done = specbench("run", "speculative", "--profile", path, "--resume", whole.manifest.run_id)
    assert done.code == 0, done.err
    assert file.read_bytes().startswith(kept)
    again = stored(tmp_path)
    assert [(r.method, *r.key) for r in again.generations] == [(r.method, *r.key) for r in whole.generations]
    assert [r.tokens for r in again.generations] == [r.tokens for r in whole.generations]
    assert again.manifest.status == "finished"


def test_a_run_is_resumed_by_its_id_alone_with_the_words_that_started_it(specbench, profile, tmp_path):
    plugin = tmp_path / "crashing.py"
    plugin.write_text(CRASHING.format(memory=False).replace("== 3", "== 99"))
    words = ("--profile", profile(), "--limit", 1, "--plugin", plugin, "--only")
    assert specbench("run", "crashing", *words).code == 0
    whole = stored(tmp_path)
    file = tmp_path / "runs" / whole.manifest.run_id / "generations.jsonl"
    file.write_bytes(b"")
    done = specbench("run", "--resume", whole.manifest.run_id, "--json")
    assert done.code == 0, done.err
    assert list(done.json["methods"]) == ["crashing"]
    assert [r.tokens for r in stored(tmp_path).generations] == [r.tokens for r in whole.generations]
    other = specbench("run", "--resume", whole.manifest.run_id, "--set", "speculative.draft_length=2")
    assert other.code == 5
    assert "speculative.draft_length was 4, and is 2" in other.err


def test_a_run_that_is_resumed_by_its_id_ends_with_the_status_that_it_had(specbench, profile, tmp_path):
    plugin = tmp_path / "crashing.py"
    plugin.write_text(CRASHING.format(memory=False))
    path = profile(workload={"warmup": 1})
    assert specbench("run", "crashing", "--profile", path, "--plugin", plugin).code == 7
    assert specbench("run", "--resume", stored(tmp_path).manifest.run_id).code == 7


def test_a_finished_run_that_is_resumed_says_that_nothing_is_asked_again(specbench, profile, tmp_path):
    path = profile()
    specbench("run", "cloud_baseline", "--profile", path)
    whole = stored(tmp_path)
    done = specbench("run", "--resume", whole.manifest.run_id)
    assert done.code == 0, done.err
    assert f"run {whole.manifest.run_id} is finished: every answer is there" in done.err
    assert [r.tokens for r in stored(tmp_path).generations] == [r.tokens for r in whole.generations]


def test_a_run_with_other_settings_is_not_resumed(specbench, profile, tmp_path):
    path = profile()
    specbench("run", "speculative", "--profile", path)
    run_id = stored(tmp_path).manifest.run_id
    before = (tmp_path / "runs" / run_id / "generations.jsonl").read_bytes()
    done = specbench(
        "run", "speculative", "--profile", path, "--resume", run_id, "--set", "speculative.draft_length=2"
    )
    assert done.code == 5
    assert "speculative.draft_length was 4, and is 2" in done.err
    done = specbench("run", "cloud_baseline", "--profile", path, "--resume", run_id)
    assert "methods was" in done.err
    assert (tmp_path / "runs" / run_id / "generations.jsonl").read_bytes() == before


def test_a_damaged_record_is_named_at_resume(specbench, profile, tmp_path):
    path = profile()
    specbench("run", "speculative", "--profile", path)
    run_id = stored(tmp_path).manifest.run_id
    file = tmp_path / "runs" / run_id / "generations.jsonl"
    damaged = file.read_bytes().replace(b'"method"', b'"methed"', 1)
    file.write_bytes(damaged)
    done = specbench("run", "speculative", "--profile", path, "--resume", run_id)
    assert done.code == 5
    assert "line 1 is damaged" in done.err
    assert file.read_bytes() == damaged


def test_a_run_does_not_go_on_with_another_engine(specbench, profile, tmp_path):
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}  # which is not compiled
    folder = tiny_llama(tmp_path / "m", seed=4, rope_parameters=dynamic)
    path = profile(engine={"kind": "compiled"}, cloud={"model": str(folder)})
    first = specbench("run", "cloud_optimized_baseline", "--profile", path, "--limit", "1", "--json")
    assert first.code == 0, first.err
    stored = next((tmp_path / "runs").glob("*/manifest.json"))
    stored.write_text(stored.read_text().replace('"cloud": "eager"', '"cloud": "compiled"'))
    again = specbench(
        "run", "cloud_optimized_baseline", "--profile", path, "--limit", "1", "--resume", stored.parent.name
    )
    assert again.code == 5
    assert "cannot be resumed: the cloud's engine was compiled, and is eager" in again.err


def test_a_finished_run_whose_file_was_cut_in_half_is_named_by_every_command(specbench, profile, tmp_path):
    path = profile()
    assert specbench("run", "speculative", "--profile", path).code == 0
    whole = stored(tmp_path)
    assert whole.manifest.generations.count == len(whole.generations) == 8
    run_id = whole.manifest.run_id
    file = tmp_path / "runs" / run_id / "generations.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4]))
    told = f"of 8 answers of run {run_id} are missing from generations.jsonl"
    for command in (["compare", run_id], ["report", run_id, "--format", "md"]):
        done = specbench(*command)
        assert told in " ".join(done.out.replace("\\", "").split())
        assert "No verdict: " in done.out or "no verdict on speculative" in done.out
    planned = specbench("plan", "--run", run_id)
    assert (planned.code, told in planned.err) == (5, True)
    resumed = specbench("run", "--resume", run_id)
    assert resumed.code == 0
    assert told in resumed.err
    assert stored(tmp_path).faults == ()
    assert sorted(r.tokens for r in stored(tmp_path).generations) == sorted(r.tokens for r in whole.generations)
