"""Figure 5: time and memory as the context grows, and resident size over many prompts."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import psutil
from engine_measure import Pair, in_turn, middle, parser, ratio, show
from scipy.stats import theilslopes

from specbench.benchmark.new_manifest import new_manifest
from specbench.benchmark.preparation import prepare
from specbench.benchmark.runner import Runner
from specbench.clock import now_ms
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.results.store import RunStore

CONTEXTS = (64, 512, 2048)
BEFORE = 0.2  # of the prompts, while caches of all kinds fill


def resident_mb():
    return psutil.Process().memory_info().rss / 1e6


def context(rest):
    arguments = parser(tokens=16).parse_args(rest)
    actions, held = {}, {}
    for kind in ("compiled", "eager"):
        engine = Pair(arguments.profile, kind).cloud.engine
        for length in CONTEXTS:
            gc.collect()
            before, started = resident_mb(), now_ms()
            session = engine.session(length + 8)
            session.prefill([(100 + index) % engine.vocabulary_size for index in range(length)])
            took = now_ms() - started
            filled = sum(part[:, :, :length].nbytes for _, part in session.tensors()) / 1e6
            held[kind, length] = resident_mb() - before
            show(
                f"{kind} ({engine.kind}), prompt of {length}",
                f"{took:.0f} ms, {took / length:.2f} ms a token; cache {filled:.1f} MB, resident size "
                f"{held[kind, length]:+.1f} MB",
            )
            actions[kind, length] = one_token(session, length)
    found = in_turn(actions, arguments.tokens)
    for kind in ("compiled", "eager"):
        times = {length: median(found[kind, length]) for length in CONTEXTS}
        for length in CONTEXTS:
            over = ratio(found[kind, length], found[kind, CONTEXTS[0]])
            show(
                f"{kind}, a token behind {length}", f"{middle(found[kind, length])}, over {CONTEXTS[0]}: {over}"
            )
        slopes = [
            (times[right] - times[left]) / (right - left) * 1000 for left, right in itertools.pairwise(CONTEXTS)
        ]
        wanted = "the second not above the first: no quadratic term"
        show(
            f"{kind}, microseconds for one more token of context",
            ", then ".join(f"{s:.2f}" for s in slopes),
            wanted,
        )


def one_token(session, length):
    def run():
        session.extend([5])
        session.truncate(length)

    return run


class Resident:
    """An observer that notes the resident size whenever a prompt is done."""

    def __init__(self):
        self.sizes, self._done = [], -1

    def note(self, line):
        print(f"  {line}", flush=True)

    def started(self, progress, monitor):
        self.sizes.append(resident_mb())

    def advanced(self, progress):
        if progress.prompts_done != self._done:
            self._done = progress.prompts_done
            self.sizes.append(resident_mb())

    def failed(self, failure):
        raise SystemExit(f"{failure.method}: {failure.error}")


def memory(rest):
    """A real run of 1,000 short prompts, each of another length, records and all."""
    options = parser(profile="quantized_edge", prompts=1000, tokens=3)
    options.add_argument("--engine", default="compiled", choices=["compiled", "eager"])
    arguments = options.parse_args(rest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        rows = [
            {"question_id": n, "category": "sums", "turns": [f"What is {n} + {7 * n}?" + " Why?" * (n % 13)]}
            for n in range(arguments.prompts)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {
            "workload.prompts": str(path), "workload.limit": arguments.prompts,
            "workload.max_new_tokens": arguments.tokens, "engine.kind": arguments.engine,
        }  # fmt: skip
        profile = load_profile(arguments.profile, (), settings)
        prepared = prepare(profile, [discover(()).get("speculative")])
        store, watch = RunStore(Path(folder) / "runs"), Resident()
        manifest = new_manifest(prepared, store.new_id(), arguments.profile, (), {})
        started = now_ms()
        run = Runner(prepared, manifest, store.create(manifest), watch).run()
    show("prompts", f"{len(run.generations)} in {(now_ms() - started) / 1000:.0f} s")
    settled = watch.sizes[int(len(watch.sizes) * BEFORE) :]
    slope, _, low, high = theilslopes(settled, range(len(settled)))
    show("resident size at the start, settled, at the end",
         f"{watch.sizes[0]:.1f}, {settled[0]:.1f}, {settled[-1]:.1f} MB")  # fmt: skip
    show("growth in 1,000 prompts once settled (Theil-Sen, 95 %)",
         f"{slope * 1000:+.2f} MB ({low * 1000:+.2f} to {high * 1000:+.2f})", "none but records")  # fmt: skip
    kept = sum(deep_size(record) for record in run.generations) / len(run.generations) / 1e6 * 1000
    show("of which the run's records, 1,000 of them", f"{kept:.2f} MB")


def deep_size(value):
    """Bytes of a record and of all that it alone holds."""
    size = sys.getsizeof(value)
    if hasattr(value, "__dict__"):
        size += sys.getsizeof(value.__dict__) + sum(deep_size(part) for part in vars(value).values())
    elif isinstance(value, (tuple, list)):
        size += sum(deep_size(part) for part in value)
    return size
