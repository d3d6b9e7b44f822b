"""Figures 1 to 3: the control, speculation over it, and transformers' assisted generation."""

from __future__ import annotations

from importlib import resources
from statistics import median

from engine_measure import (
    Pair,
    acceptance_length,
    answer,
    demand_compiled,
    middle,
    parser,
    ratio,
    show,
    tokens_of,
)
from specbench.plugins.cloud_baseline import CloudBaseline
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline
from specbench.plugins.hf_assisted import HfAssisted
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.benchmark.tuning import DRAFT_LENGTHS
from specbench.engine.bandwidth import MemoryReader, weight_bytes

TUNING_PROMPTS = 6


def control(rest):
    arguments = parser(prompts=24, tokens=24).parse_args(rest)
    ours, theirs = Pair(arguments.profile, "compiled"), Pair(arguments.profile, "eager")
    demand_compiled(ours.cloud)
    decoder = CloudOptimizedBaseline().open(ours.edge, ours.cloud, ours.options)
    eager = CloudOptimizedBaseline().open(theirs.edge, theirs.cloud, theirs.options)
    generate = CloudBaseline().open(theirs.edge, theirs.cloud, theirs.options)
    size = weight_bytes(ours.cloud.engine.loaded.model)
    reader = MemoryReader("cpu", size)
    times = {"compiled": [], "eager": [], "generate": [], "ceiling": []}
    requests = list(ours.requests("builtin", arguments.prompts, arguments.tokens))
    short = list(theirs.requests("builtin", arguments.prompts, max(3, arguments.tokens // 2)))
    for turn, (request, brief) in enumerate(zip([requests[0], *requests], [short[0], *short], strict=True)):
        measured = {
            "ceiling": size / reader.bytes_per_second() * 1000,
            "compiled": answer(decoder, request)[0],
            "generate": answer(generate, brief)[0],
            "eager": answer(eager, brief)[0],
        }
        for name, value in measured.items() if turn else ():  # the first prompt warms up
            times[name].append(value)
    best = min(times["ceiling"])
    show("bytes of weights a token reads", f"{size / 1e6:.0f} MB")
    show("read bandwidth, best of all turns", f"{size / best / 1e6:.1f} GB/s")
    show("ceiling, best of all turns", f"{best:.2f} ms a token")
    show("ceiling, measured beside each prompt", middle(times["ceiling"]))
    for name in ("compiled", "eager", "generate"):
        show(f"{name}, ms a token", middle(times[name]))
    show("share of the best ceiling, compiled", f"{best / median(times['compiled']):.3f}", "0.80")
    show("share of the ceiling beside each prompt", ratio(times["ceiling"], times["compiled"]), "0.80")
    show("model.generate / compiled control", ratio(times["generate"], times["compiled"]), "2.5")
    show("model.generate / the ceiling: the most that is possible", ratio(times["generate"], times["ceiling"]))
    show("eager control / compiled control", ratio(times["eager"], times["compiled"]))


def speculative(rest):
    arguments = parser(profile="quantized_edge", prompts=48, tokens=48).parse_args(rest)
    pair = Pair(arguments.profile, "compiled")
    demand_compiled(pair.edge, pair.cloud)
    alone = CloudOptimizedBaseline().open(pair.edge, pair.cloud, pair.options)
    by_length = {
        length: SpeculativeDecoding().open(pair.edge, pair.cloud, pair.with_draft_length(length))
        for length in DRAFT_LENGTHS
    }
    heldout = str(resources.files("specbench.distill") / "heldout.jsonl")
    tuned = {length: [] for length in by_length}
    for turn, request in enumerate(pair.requests(heldout, min(TUNING_PROMPTS, arguments.prompts) + 1, 32)):
        for length, decoder in by_length.items():
            ms = answer(decoder, request)[0]
            if turn:
                tuned[length].append(ms)
    length = min(tuned, key=lambda length: median(tuned[length]))
    decoder = by_length[length]
    show("ms a token by draft length, on other prompts", {n: round(median(ms), 1) for n, ms in tuned.items()})
    times, rounds, same = {"control": [], "speculative": []}, [], 0
    for turn, request in enumerate(pair.requests("builtin", arguments.prompts, arguments.tokens)):
        order = [("control", alone), ("speculative", decoder)]
        answers = {}
        for name, one in order[:: 1 if turn % 2 else -1]:
            ms, answers[name] = answer(one, request)
            times[name].append(ms)
        rounds.append(answers["speculative"])
        same += tokens_of(answers["control"]) == tokens_of(answers["speculative"])
    show("draft length", length)
    for name, column in times.items():
        show(f"{name}, ms a token", middle(column))
    show("acceptance length", f"{acceptance_length(rounds):.2f}")
    show("texts equal to the control's", f"{same} of {len(rounds)}")
    show("control / speculative", ratio(times["control"], times["speculative"]), "1.5 with quantized_edge")
    total = sum(times["control"]) / sum(times["speculative"])
    show("the same, sums over sums", f"{total:.3f}")


def assisted(rest):
    arguments = parser(prompts=12, tokens=32).parse_args(rest)
    pair = Pair(arguments.profile, "eager")
    methods = {"speculative": SpeculativeDecoding(), "hf_assisted": HfAssisted()}
    decoders = {name: method.open(pair.edge, pair.cloud, pair.options) for name, method in methods.items()}
    times, rounds = ({name: [] for name in decoders} for _ in range(2))
    requests = list(pair.requests("builtin", arguments.prompts, arguments.tokens))
    for turn, request in enumerate([requests[0], *requests]):
        for name in list(decoders)[:: 1 if turn % 2 else -1]:
            ms, parts = answer(decoders[name], request)
            if turn:
                times[name].append(ms)
                rounds[name].append(parts)
    pairs = zip(rounds["speculative"], rounds["hf_assisted"], strict=True)
    same = sum(tokens_of(ours) == tokens_of(theirs) for ours, theirs in pairs)
    show("draft length", pair.options.speculative.draft_length)
    for name, column in times.items():
        show(f"{name}, ms a token", middle(column))
        show(f"{name}, acceptance length", f"{acceptance_length(rounds[name]):.2f}")
    show("equal texts", f"{same} of {len(requests)}")
    show("hf_assisted / speculative", ratio(times["hf_assisted"], times["speculative"]), "1.15")
