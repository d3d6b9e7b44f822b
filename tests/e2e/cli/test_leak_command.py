"""`specbench leak`: a stored run in, a table or JSON out, and one sentence where nothing can be measured."""

from dataclasses import replace

import pytest
from bundles import add_run
from comparisons import run

from specbench.results.records import Round
from specbench.results.store import RunStore


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def with_bytes(store):
    """The run of `add_run`, as if its target had been another process: two tasks, of which one sends more."""
    stored = store.read(add_run(store))
    records = []
    for each in stored.generations:
        task = int(each.prompt_id) % 2
        rounds = [Round(part.tokens, bytes_up=16, bytes_down=27 + 4 * task) for part in each.rounds]
        records.append(replace(each, category=f"task{task}", rounds=tuple(rounds)))
    made = replace(run(records, "r2").manifest, status="running")
    writer = store.create(made)
    writer.append(records)
    writer.write_manifest(replace(made, status="finished", generations=writer.written()))
    writer.lock.release()


def test_leak_prints_how_often_the_task_is_guessed_right(specbench, store):
    with_bytes(store)
    found = specbench("leak", "r2", "--json")
    assert found.code == 0, found.err
    rows = {(row["method"], row["seen"]): row for row in found.json["runs"][0]["rows"]}
    assert rows["m", "sizes"]["accuracy"] == 1.0
    shown = specbench("leak", "r2")
    assert "100.0%" in shown.out
    assert "has under 5 prompts with repeats" in shown.out
    assert "Seed 0." in shown.out


def test_a_run_in_one_process_is_refused_by_name(specbench, store):
    refused = specbench("leak", add_run(store))
    assert (refused.code, refused.out) == (2, "")
    assert "run r1 has no bytes of messages" in refused.err
    assert "hint: make one with 'specbench run speculative --set cloud.placement=process'" in refused.err
