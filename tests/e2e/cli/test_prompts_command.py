"""`specbench prompts`: from a file of one's own to a run, and what is in it."""

import json


def test_prepared_prompts_can_be_run_and_described(specbench, profile, tmp_path):
    (tmp_path / "rows.txt").write_text("alpha beta\n\ngamma\n" + "beta " * 40 + "\n")
    out = tmp_path / "out.jsonl"
    done = specbench(
        "prompts", "prepare", tmp_path / "rows.txt", "--out", out, "--max-tokens", "30", "--profile", profile()
    )
    assert done.code == 0, done.err
    assert "2 of 3 prompts (text), 1 left out: too long" in done.out
    run = specbench(
        "run", "cloud_optimized_baseline", "--profile", profile(), "--prompts", out, "--max-new-tokens", "2"
    )
    assert run.code == 0, run.err
    shown = specbench("prompts", "describe", out, "--profile", profile(), "--json")
    described = json.loads(shown.out)
    assert described["total"]["prompts"] == 2
    assert described["is_as_prepared"]
    table = specbench("prompts", "describe", out, "--profile", profile()).out
    assert "Prepared from rows.txt (text)" in table
    assert "without system message, template and prefill" in " ".join(table.split())


def test_a_file_changed_since_it_was_prepared_is_said_to_be(specbench, profile, tmp_path):
    (tmp_path / "rows.txt").write_text("alpha\n")
    out = tmp_path / "out.jsonl"
    assert specbench("prompts", "prepare", tmp_path / "rows.txt", "--out", out).code == 0
    out.write_text(out.read_text().replace("alpha", "beta"))
    assert "The file was changed since." in specbench("prompts", "describe", out, "--profile", profile()).out
