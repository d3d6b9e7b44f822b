"""Figure 6: what runner, records, live view and memory monitor take of a run; and how soon help answers."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import rich.live
from engine_measure import parser, show
from rich.console import Console

from specbench.api import Decoder, Method
from specbench.benchmark import runner as runners
from specbench.benchmark.ceiling import CeilingWatch
from specbench.benchmark.new_manifest import new_manifest
from specbench.benchmark.preparation import Prepared, prepare
from specbench.benchmark.telemetry import MemoryMonitor
from specbench.clock import now_ms
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.render import console
from specbench.render.live import LiveView
from specbench.results.store import RunStore

METHODS = ("cloud_optimized_baseline", "speculative")
SPENT: dict[str, float] = {}
BANDWIDTH = "memory bandwidth, beside each answer"  # a measurement of the machine, in no method's time


def spend(name, ms):
    SPENT[name] = SPENT.get(name, 0.0) + ms


def timing(name, function, clock):
    """The same function, its time added to `name`."""

    def run(*arguments, **keywords):
        started = clock()
        try:
            return function(*arguments, **keywords)
        finally:
            spend(name, clock() - started)

    return run


def thread_ms():
    """Milliseconds of processor time of this thread alone."""
    return time.thread_time_ns() / 1e6


class TimedDecoder(Decoder):
    """Knows how long the method itself takes: the rest of the main thread's time is ours."""

    def __init__(self, decoder):
        self._decoder = decoder

    def generate(self, request):
        advance, rounds = timing("methods", next, now_ms), iter(self._decoder.generate(request))
        while (part := advance(rounds, None)) is not None:
            yield part

    def check(self):
        self._decoder.check()


class Timed(Method):
    def __init__(self, method):
        self.name, self.summary, self.roles, self._method = method.name, method.summary, method.roles, method

    def lossless(self, options):
        return self._method.lossless(options)

    def repeats_control(self, options):
        return self._method.repeats_control(options)

    def open(self, edge, cloud, options):
        return TimedDecoder(self._method.open(edge, cloud, options))


def harness(rest):
    arguments = parser(profile="quantized_edge", prompts=12, tokens=96).parse_args(rest)
    settings = {
        "workload.limit": arguments.prompts,
        "workload.max_new_tokens": arguments.tokens,
        "engine.kind": "compiled",  # the faster the engine, the larger our share
    }
    profile = load_profile(arguments.profile, (), settings)
    console.err = Console(file=io.StringIO(), force_terminal=True, width=120)
    thread = rich.live._RefreshThread
    thread.run = timing("live view, its thread", thread.run, thread_ms)
    MemoryMonitor._watch = timing("memory monitor, its thread", MemoryMonitor._watch, thread_ms)
    MemoryMonitor._sample = timing("memory samples, all threads", MemoryMonitor._sample, thread_ms)
    LiveView.advanced = timing("live view, snapshots", LiveView.advanced, now_ms)
    runners.Runner._measure = timing("run", runners.Runner._measure, now_ms)
    Prepared.request = timing("prompts into ids", Prepared.request, now_ms)
    runners.PrecisionWatch.look = timing("precision switches", runners.PrecisionWatch.look, now_ms)
    runners.gc.collect = timing("collecting garbage, before the run", runners.gc.collect, now_ms)
    CeilingWatch.look = timing(BANDWIDTH, CeilingWatch.look, now_ms)
    registry, view = discover(()), LiveView()
    with tempfile.TemporaryDirectory() as folder:
        methods = [Timed(registry.get(name)) for name in METHODS]
        prepared = prepare(profile, methods)
        store = RunStore(Path(folder))
        manifest = new_manifest(prepared, store.new_id(), arguments.profile, (), {})
        writer = store.create(manifest)
        type(writer).append = timing("records onto the disk", type(writer).append, now_ms)
        try:
            runners.Runner(prepared, manifest, writer, view).run()
        finally:
            view.close()
    total = SPENT["run"]
    main = total - SPENT["methods"] - SPENT[BANDWIDTH]
    threads = sum(SPENT[name] for name in SPENT if name.endswith("its thread"))
    show("the run: warm-up, prompts, records", f"{total / 1000:.2f} s")
    for name in sorted(SPENT, key=lambda name: -SPENT[name]):
        show(f"  {name}", f"{SPENT[name]:.1f} ms, {SPENT[name] / total:.3%}")
    show("main thread outside methods and memory bandwidth", f"{main:.1f} ms, {main / total:.3%}")
    show("main thread and the harness's threads together", f"{(main + threads) / total:.3%}", "under 1 %")
    help_answers()


def help_answers():
    script = "from specbench.cli import main; main()"
    times = []
    for _ in range(7):
        started = now_ms()
        subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, check=True)
        times.append(now_ms() - started)
    show("specbench --help", f"{median(times):.0f} ms, best {min(times):.0f} ms", "under 300 ms")
