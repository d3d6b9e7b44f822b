"""How long a sweep may still take: known pace, spread of the conditions, and silence where nothing is known."""

import io
import os
import random
import signal
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
from builders import generation, manifest
from rich.console import Console
from waiting import wait_until
from warm import WarmPopen

from specbench.benchmark import child_process
from specbench.benchmark import sweep_record as sweeps
from specbench.render import console
from specbench.render.sweeping import LiveSweepView, PlainSweepView
from specbench.results.store import GENERATIONS, RunStore
from specbench.sweeps.runner import Watch
from specbench.sweeps.time_left import SweepProgress, in_words

BEGUN = SweepProgress("a=1", 6)


def test_nothing_is_promised_before_anything_was_measured():
    assert BEGUN.left_s is None
    assert in_words(BEGUN.left_s) == "time left unknown"


def test_within_the_first_condition_its_own_pace_speaks_without_a_spread():
    found = replace(BEGUN, elapsed_s=20.0, answers=4, answers_total=14, pace_s=4.0)
    assert found.here_s == 40.0
    assert found.left_s == (40.0 + 5 * 60.0, None)
    assert in_words(found.left_s) == "about 6 min left"


def test_finished_conditions_give_the_mean_and_the_spread():
    found = replace(BEGUN, done=2, seconds=(50.0, 70.0), elapsed_s=10.0)
    left_s, error_s = found.left_s
    assert left_s == 50.0 + 3 * 60.0
    assert error_s == pytest.approx(2 * 3 * statistics.stdev((50, 70)) * (1 / 2 + 1 / 3) ** 0.5)
    assert "±" in in_words(found.left_s)
    assert replace(found, elapsed_s=500.0).here_s == 0.0


def test_a_condition_that_is_over_but_was_not_timed_is_not_waited_for():
    assert replace(BEGUN, done=5).left_s is None
    assert replace(BEGUN, done=4, seconds=(60.0,), elapsed_s=10.0).left_s == (50.0 + 60.0, None)


def test_a_condition_that_goes_on_tells_of_the_others_by_all_of_its_answers():
    found = replace(BEGUN, elapsed_s=10.0, answers=9, answers_before=7, answers_total=10, pace_s=4.0)
    assert found.here_s == 4.0
    assert found.left_s == (4.0 + 5 * (10.0 + 4.0 + 7 * 4.0), None)


def test_the_last_condition_knows_its_own_end():
    found = replace(
        BEGUN, total=3, done=2, seconds=(9.0, 90.0), elapsed_s=6.0, answers=3, answers_total=6, pace_s=2.0
    )
    assert found.left_s == (6.0, None)


def test_the_estimate_holds_the_truth_about_as_often_as_it_says():
    coin, held = random.Random(3), 0
    for _ in range(400):
        seconds = [coin.lognormvariate(4, 0.3) for _ in range(24)]
        found = replace(BEGUN, total=24, done=8, seconds=tuple(seconds[:8]))
        left_s, error_s = found.left_s
        held += abs(sum(seconds[8:]) - left_s) <= error_s
    assert 0.85 < held / 400 < 0.99


def test_answers_are_counted_as_they_are_stored(tmp_path):
    store = RunStore(tmp_path)
    watch = Watch(store, "r1")
    assert watch.look(BEGUN) == BEGUN
    profile = {"workload": {"repeats": 2}}
    store.create(manifest("r0", profile=profile)).append([generation()])
    writer = store.create(manifest("r1", profile=profile, turns={"1": ("a", "b")}, methods=("m", "n")))
    first = watch.look(replace(BEGUN, elapsed_s=5.0))
    assert (first.answers, first.answers_total, first.pace_s) == (0, 8, None)
    path = writer.folder / GENERATIONS
    path.write_bytes(b"{}\n{}\n{half of")
    assert watch.look(replace(BEGUN, elapsed_s=30.0)).answers == 2
    with path.open("ab") as file:
        file.write(b" it}\n{}\n")
    found = watch.look(replace(BEGUN, elapsed_s=34.0))
    # The thirty seconds before the first answers were loading, which comes once.
    assert (found.answers, found.pace_s) == (4, 2.0)


def test_what_was_stored_before_a_run_goes_on_tells_nothing_of_its_pace(tmp_path):
    store = RunStore(tmp_path)
    profile = {"workload": {"repeats": 4}}
    writer = store.create(manifest("r1", profile=profile, turns={"1": ("a", "b")}))
    writer.append([generation()] * 4)
    watch = Watch(store, "r1")
    found = watch.look(replace(BEGUN, elapsed_s=1.0))
    assert (found.answers, found.answers_before, found.answers_total, found.pace_s) == (4, 4, 8, None)
    writer.append([generation()])
    assert watch.look(replace(BEGUN, elapsed_s=30.0)).pace_s is None
    writer.append([generation()])
    found = watch.look(replace(BEGUN, elapsed_s=33.0))
    assert (found.answers, found.answers_before, found.pace_s) == (6, 4, 3.0)


def shown(view, monkeypatch, *snapshots):
    for snapshot in snapshots:
        view.advanced(snapshot)
    rendered = Console(file=io.StringIO(), width=140)
    rendered.print(view.bars.get_renderable())
    view.close()
    return rendered.file.getvalue()


def test_a_terminal_sees_the_grid_and_the_condition(monkeypatch):
    monkeypatch.setattr(console, "err", Console(file=io.StringIO(), force_terminal=True, width=140))
    found = replace(BEGUN, done=1, seconds=(60.0,), elapsed_s=9.0, answers=3, answers_total=12, pace_s=2.0)
    text = shown(LiveSweepView(), monkeypatch, BEGUN, found)
    assert "1/6 conditions" in text
    assert "3/12 answers" in text
    assert "a=1" in text
    assert in_words(found.left_s) in text


def test_a_log_gets_a_line_a_condition_and_not_one_a_second(monkeypatch):
    said = []
    monkeypatch.setattr(console, "note", said.append)
    view = PlainSweepView()
    for elapsed in range(5):
        view.advanced(replace(BEGUN, elapsed_s=float(elapsed)))
    view.advanced(replace(BEGUN, condition="a=2", done=1, seconds=(5.0,)))
    assert said == ["condition 1 of 6: a=1; time left unknown", f"condition 2 of 6: a=2; {'about 25 s left'}"]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C is a signal to a group of processes")
@pytest.mark.parametrize(
    "group", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["terminal", "the sweep alone"]
)
def test_ctrl_c_leaves_what_was_finished_and_the_sweep_goes_on(
    profile, tmp_path, monkeypatch, specbench, group
):
    small = profile(workload={"limit": 2, "max_new_tokens": 100, "warmup": 0, "repeats": 5})
    closing_s = child_process.CLOSING_S if group else 0.1
    program = (
        f"import specbench.benchmark.child_process as s; s.CLOSING_S = {closing_s}\n"
        "from specbench.cli import main; main()"
    )
    words = ["sweep", "speculative", "--profile", str(small), "--over", "speculative.draft_length=1,2"]
    began = WarmPopen(
        [sys.executable, "-c", program, *words, "--runs-dir", str(tmp_path / "runs")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    store = RunStore(tmp_path / "runs")
    # One that holds nothing yet would be given up.
    wait_until(lambda: any(path.stat().st_size for path in (tmp_path / "runs").glob(f"*/{GENERATIONS}")))
    (os.killpg if group else os.kill)(began.pid, signal.SIGINT)
    _, said = began.communicate(timeout=300)
    assert began.returncode == 130, said
    assert "sweep --resume" in said
    (run_id,) = store.ids()
    begun = store.read(run_id)
    assert begun.manifest.status == "interrupted"
    (sweep_id,) = (path.stem for path in (tmp_path / "runs" / "sweeps").glob("*.json"))
    ((index, known),) = sweeps.read(store, sweep_id).runs.items()
    assert known == run_id

    resumed = specbench("sweep", "--resume", sweep_id)
    assert resumed.code == 0, resumed.err
    ended = sweeps.read(store, sweep_id)
    assert sorted(ended.finished) == [0, 1]
    assert sorted(ended.runs.values()) == store.ids()
    assert ended.runs[index] == run_id
    assert store.read(run_id).manifest.status == "finished"
    assert store.read(run_id).generations[: len(begun.generations)] == begun.generations
    assert ended.seconds.keys() == {1 - index}  # the other ran in two sittings
