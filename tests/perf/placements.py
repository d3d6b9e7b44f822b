"""The cloud in a process of its own against the cloud in this one: run by hand, on a quiet machine.

    python tests/perf/placements.py [--limit 12] [--max-new-tokens 48] [--profile default] [--set KEY=VALUE]

Same prompts, same threads, no delay; both placements answer every prompt, in turns (A B, B A, ...). Shown is
the ratio of geometric means of the time per output token, `process` over `in_process`, with its interval over
prompts, where a round's time goes, and its wake-ups: how often threads of both processes slept, those of OpenMP
among them (`--set edge.threads=1 --set cloud.threads=1` has none of these). Exit status 1 when more than 5 % is
lost beyond doubt, or a text differs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.benchmark import conversation
from specbench.benchmark.preparation import configure_torch
from specbench.benchmark.workload import load_prompts
from specbench.clock import now_ms
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.results.records import Generation
from specbench.stats.verdict import speedup

LIMIT = 1.05
METHODS = ("cloud_optimized_baseline", "speculative", "speculative_pipelined")


def answer(decoder, request, prompt):
    """One prompt's first turn, timed as a run times it."""
    rounds, arrivals, started = [], [], now_ms()
    for part in decoder.generate(request):
        arrivals.append(now_ms() - started)
        rounds.append(part)
    return Generation(
        "", prompt.prompt_id, prompt.category, 0, 1, 0, len(request.prompt_ids), "", "", "", tuple(rounds),
        tuple(arrivals),
    )  # fmt: skip


def wake_ups(pids):
    """How often the threads of these processes have gone to sleep so far."""
    name = "voluntary_ctxt_switches:"
    found = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):  # a thread that has ended
                found += sum(
                    int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)
                )
    return found


def parts(records):
    """Medians over rounds behind the first: all of it, its parts, and what is none of them, in ms."""
    rows = []
    for record in records:
        for part, (before, after) in zip(record.rounds[1:], pairwise(record.arrival_ms), strict=True):
            wire_ms = part.link_ms or 0.0
            known = part.draft_ms or 0.0, wire_ms, part.verify_ms or 0.0
            rows.append((after - before, *known, after - before - sum(known)))
    whole, draft, wire, verify, rest = (median(column) for column in zip(*rows, strict=True))
    return f"{whole:.2f} ms: draft {draft:.2f}, wire {wire:.2f}, verify {verify:.2f}, rest {rest:.2f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    arguments = parser.parse_args()
    given = {"workload.limit": arguments.limit, "workload.max_new_tokens": arguments.max_new_tokens}
    profile = load_profile(arguments.profile, arguments.set, given)
    configure_torch(profile)
    edge = EdgeModel(profile.edge, profile.engine)
    clouds = {
        "in_process": CloudModel(profile.cloud, profile.engine),
        "process": CloudModel(profile.cloud, profile.engine, placement="process"),
    }
    options = Options.of(profile)
    prompts = load_prompts(profile.workload)
    tokenizer, stop_ids = clouds["in_process"].tokenizer, clouds["in_process"].stop_ids
    woken = Counter()
    found = {name: {where: [] for where in clouds} for name in METHODS}
    try:
        decoders = {
            name: {where: discover().get(name).open(edge, cloud, options) for where, cloud in clouds.items()}
            for name in METHODS
        }
        for turn, prompt in enumerate([prompts[0], *prompts]):  # the first one warms up
            ids = tuple(conversation.prompt_ids(tokenizer, prompt.turns[:1], ()))
            request = Request(ids, arguments.max_new_tokens, stop_ids, seed=turn)
            for name in METHODS:
                for where in list(clouds)[:: 1 if turn % 2 else -1]:
                    process = getattr(clouds[where], "process", None)
                    pids = [os.getpid(), *([process.pid] if process else [])]
                    before = wake_ups(pids)
                    record = answer(decoders[name][where], request, prompt)
                    if turn:
                        found[name][where].append(replace(record, method=name))
                        woken[name, where] += wake_ups(pids) - before
    finally:
        for cloud in clouds.values():
            cloud.close()
    bad = False
    for name, sides in found.items():
        here, there = sides["in_process"], sides["process"]
        same = sum(a.tokens == b.tokens for a, b in zip(here, there, strict=True))
        ratio = speedup(there, here)  # of in_process over process, so a loss is above 1
        low, high = ratio.interval or (None, None)
        bad |= same < len(here) or (low is not None and low > LIMIT)
        shown = f"{low:.3f} to {high:.3f}" if low is not None else "needs 12 prompts"
        print(f"{name}: process / in_process {ratio.ratio:.3f} ({shown}), {same} of {len(here)} texts alike")
        for where, records in sides.items():
            each = woken[name, where] / sum(len(record.rounds) for record in records)
            print(f"    a round {where}: {parts(records)}; {each:.1f} wake-ups")
    sys.exit(bad)


if __name__ == "__main__":
    main()
