"""A sweep takes the options of the workload as a run does."""

from specbench.results.store import RunStore


def test_a_sweep_asks_as_many_prompts_and_tokens_as_its_options_say(specbench, profile, tmp_path):
    words = ("--limit", 1, "--max-new-tokens", 4, "--repeats", 2, "--json")
    over = ("--over", "speculative.draft_length=2")
    done = specbench("sweep", "speculative", "--profile", profile(), *over, *words)
    assert done.code == 0, done.err
    store = RunStore(tmp_path / "runs")
    stored = store.read(store.find("latest"))
    workload = stored.manifest.profile["workload"]
    assert (workload["limit"], workload["max_new_tokens"], workload["repeats"]) == (1, 4, 2)
    assert {record.repeat for record in stored.generations} == {0, 1}
    assert max(len(record.tokens) for record in stored.generations) <= 4
    refused = specbench("sweep", "--resume", done.json["sweep"], "--limit", 2)
    assert (refused.code, "--limit has no effect with --resume" in refused.err) == (2, True)
