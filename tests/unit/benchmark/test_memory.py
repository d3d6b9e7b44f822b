"""Memory over time: what is kept of each answer, and how a report shows it."""

import json
import mmap
import os
import time
from dataclasses import replace

import pytest
from builders import generation, manifest
from comparisons import pair, run
from stores import stored

from specbench.benchmark import telemetry
from specbench.benchmark.telemetry import MOST_LOOKS, MemoryMonitor, thinned
from specbench.render.report.charts import drawings
from specbench.render.report.inks import LIGHT
from specbench.results.records import MemoryLook, Run
from specbench.stats.report import report
from specbench.stats.timings import memory_points


@pytest.mark.parametrize("from_the_kernel", [True, False])
def test_an_interval_sees_what_was_held_and_let_go_within_it(monkeypatch, tmp_path, from_the_kernel):
    """The kernel remembers what nobody looked at; where it may not be asked, the monitor's own looks count."""
    if not from_the_kernel:
        monkeypatch.setattr(telemetry, "CLEAR_REFS", tmp_path)
    elif not os.access(telemetry.CLEAR_REFS, os.W_OK):
        pytest.skip("this kernel resets no peak")
    with MemoryMonitor(10_000) as monitor:
        monitor.begin_interval()
        before = monitor.interval()
        held = mmap.mmap(-1, 300_000_000)  # which is given back at once, whatever the allocator keeps
        held[:: mmap.PAGESIZE] = bytes(len(range(0, 300_000_000, mmap.PAGESIZE)))
        if not from_the_kernel:
            monitor._sample()
        held.close()
        after = monitor.interval()
        monitor.begin_interval()
        again = monitor.interval()
    assert after.peak_rss_bytes - before.peak_rss_bytes > 200_000_000
    assert (max(look.rss_bytes for look in after.looks) == after.peak_rss_bytes) is not from_the_kernel
    times = [look.at_ms for look in after.looks]
    assert times == sorted(times)
    assert times[0] >= 0
    assert again.peak_rss_bytes < after.peak_rss_bytes - 200_000_000
    assert again.looks[0].at_ms < after.looks[-1].at_ms


def test_a_monitor_that_is_paused_sees_nothing():
    with MemoryMonitor(1) as monitor:
        with monitor.paused():
            held = mmap.mmap(-1, 300_000_000)
            held[:: mmap.PAGESIZE] = bytes(len(range(0, 300_000_000, mmap.PAGESIZE)))
            time.sleep(0.05)
            rss = monitor._process.memory_info().rss
            held.close()
        assert monitor.latest().peak_rss_bytes < rss - 200_000_000


def test_a_thinned_course_keeps_its_order_and_every_peak():
    looks = [MemoryLook(float(at), 100 + (at == 777) * 50) for at in range(1000)]
    kept = thinned(looks)
    assert len(kept) == MOST_LOOKS
    assert [look.at_ms for look in kept] == sorted(look.at_ms for look in kept)
    assert MemoryLook(777.0, 150) in kept
    assert thinned(looks[:MOST_LOOKS]) == tuple(looks[:MOST_LOOKS])


def test_looks_lie_on_the_time_that_all_methods_spent_answering():
    looks = (MemoryLook(0.0, 10**9), MemoryLook(20.0, 2 * 10**9), MemoryLook(45.0, 10**9))
    records = [replace(generation(str(i)), peak_rss_bytes=2 * 10**9, memory=looks) for i in range(2)]
    points = memory_points(Run(manifest(), tuple(records)), {"m": "name"})
    assert [[at.busy_s for at in point.course] for point in points] == [[0.0, 0.02, 0.03], [0.03, 0.05, 0.06]]


def test_the_chart_draws_a_line_an_answer_and_the_document_holds_it():
    looks = (MemoryLook(0.0, 10**9, 5 * 10**8), MemoryLook(50.0, 2 * 10**9, 10**9))
    records = [
        replace(each, peak_rss_bytes=2 * 10**9, peak_cuda_bytes=10**9, memory=looks) for each in pair(3, 1.3)
    ]
    made = report([run(records)])
    found = {drawing.name: drawing for drawing in drawings(made)}
    assert {"memory-r1", "cuda-r1"} <= found.keys()
    spec = found["memory-r1"].draw(LIGHT, 720).to_dict()
    line = spec["layer"][0]
    assert line["encoding"]["detail"]["field"] == "answer"
    assert len(spec["datasets"][line["data"]["name"]]) == 2 * len(records)
    assert made.memory["r1"][0].course[1].rss_bytes == 2 * 10**9


def test_a_real_run_keeps_the_course_of_every_answer(specbench, profile, tmp_path):
    path = profile(workload={"limit": 2, "max_new_tokens": 6, "warmup": 0})
    assert specbench("run", "speculative", "--profile", path).code == 0
    kept = stored(tmp_path)
    assert all(2 <= len(each.memory) <= MOST_LOOKS for each in kept.generations)
    for each in kept.generations:
        between_looks = each.peak_rss_bytes - max(look.rss_bytes for look in each.memory)
        assert 0 <= between_looks < 100_000_000, "the peak is of this answer, not of the process"
    document = json.loads(specbench("report", "--format", "json").out)
    (points,) = document["report"]["memory"].values()
    assert all(point["course"] for point in points)
