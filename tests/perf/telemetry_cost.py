"""What watching costs: run by hand, `python tests/perf/telemetry_cost.py`, on a quiet machine.

Two answers. The direct one: what one memory sample, one progress snapshot and one redraw take, times how often
they happen. The indirect one: the control's TPOT with everything on and everything off, interleaved.
"""

from __future__ import annotations

import io
import statistics
import time

from rich.console import Console
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline

from specbench.api import Options, Request
from specbench.benchmark.observer import Progress
from specbench.benchmark.telemetry import MemoryMonitor
from specbench.cloud import CloudModel
from specbench.profile import load_profile
from specbench.render import console
from specbench.render.bars import REFRESH_PER_SECOND
from specbench.render.live import LiveView

TOKENS, PAIRS = 48, 8


def milliseconds(action, times):
    started = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started) * 1000 / times


def main():
    profile = load_profile("default")
    cloud = CloudModel(profile.cloud)
    decoder = CloudOptimizedBaseline().open(None, cloud, Options.of(profile))
    request = Request(tuple(range(100, 200)), TOKENS, frozenset())
    console.err = Console(file=io.StringIO(), force_terminal=True, width=120)
    interval_ms = profile.memory.monitor_interval_ms
    with MemoryMonitor(interval_ms) as monitor:
        view = LiveView()
        view.started([Progress(name, 1, 12, 99, 99.0, 9, 3) for name in "abcd"], monitor)
        sample_ms = milliseconds(monitor._sample, 500)
        redraw_ms = milliseconds(lambda: console.err.print(view.bars.get_renderable()), 100)
        snapshot_ms = milliseconds(lambda: view.advanced(Progress("a", 1, 12, 99, 99.0, 9, 3)), 5000)
        view.close()
    redraws = redraw_ms * REFRESH_PER_SECOND / 1000
    print(f"one sample {sample_ms:.3f} ms every {interval_ms} ms: {sample_ms / interval_ms:.3%} of one core")
    print(f"one redraw {redraw_ms:.2f} ms, {REFRESH_PER_SECOND} a second: {redraws:.3%} of one core")
    print(f"one snapshot {snapshot_ms * 1000:.1f} us a round")

    def generate():
        started = time.perf_counter()
        for _ in decoder.generate(request):
            pass
        return time.perf_counter() - started

    generate()
    ratios = []
    for pair in range(PAIRS):
        times = {}
        for watched in (pair % 2 == 0, pair % 2 == 1):
            if watched:
                with MemoryMonitor(interval_ms) as monitor:
                    view = LiveView()
                    view.started([Progress(name, 1, 12, 99, 99.0, 9, 3) for name in "abcd"], monitor)
                    times[watched] = generate()
                    view.close()
            else:
                times[watched] = generate()
        ratios.append(times[True] / times[False])
    middle, spread = statistics.median(ratios), statistics.stdev(ratios)
    print(f"watched / unwatched over {PAIRS} interleaved pairs: median {middle:.4f}, deviation {spread:.4f}")


if __name__ == "__main__":
    main()
