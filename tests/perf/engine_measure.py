"""What the figures of tests/perf/engine.py share: models, prompts, times in turn, ratios with their spread."""

from __future__ import annotations

import argparse
import math
import random
import statistics

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.benchmark.conversation import prompt_ids
from specbench.benchmark.workload import read_prompts, stratified
from specbench.clock import now_ms
from specbench.profile import EngineSpec, load_profile


def parser(**defaults):
    """Options that every figure understands; `defaults` differ by figure."""
    found = argparse.ArgumentParser(add_help=False)
    found.add_argument("--profile", default=defaults.get("profile", "default"))
    found.add_argument("--prompts", type=int, default=defaults.get("prompts", 12))
    found.add_argument("--tokens", type=int, default=defaults.get("tokens", 32))
    return found


class Pair:
    """The models of a profile under one engine."""

    def __init__(self, profile, kind, **engine):
        self.profile = load_profile(profile) if isinstance(profile, str) else profile
        spec = EngineSpec(kind=kind, **engine)
        self.options = Options.of(self.profile)
        self.edge = EdgeModel(self.profile.edge, engine=spec)
        self.cloud = CloudModel(self.profile.cloud, engine=spec)

    def with_draft_length(self, length):
        speculative = self.options.speculative.model_copy(update={"draft_length": length})
        return Options(self.options.decoding, speculative)

    def requests(self, source, count, budget):
        """First turns of prompts drawn from all categories in turn, answered to the whole budget."""
        for prompt in stratified(read_prompts(source), count):
            ids = prompt_ids(self.cloud.tokenizer, prompt.turns[:1], ())
            yield Request(tuple(ids), budget, frozenset())


def demand_compiled(*models):
    for model in models:
        if model.engine.kind != "compiled":
            raise SystemExit(f"the {model.role} runs {model.engine.kind}, so there is nothing to measure")


def answer(decoder, request):
    """Milliseconds per token behind the first chunk, and all rounds."""
    rounds, arrivals = [], []
    for part in decoder.generate(request):
        arrivals.append(now_ms())
        rounds.append(part)
    following = sum(len(part.tokens) for part in rounds[1:])
    return (arrivals[-1] - arrivals[0]) / following, rounds


def tokens_of(rounds):
    return [token for part in rounds for token in part.tokens]


def acceptance_length(answers):
    drafting = [part for rounds in answers for part in rounds if part.drafted]
    return sum(len(part.tokens) for part in drafting) / len(drafting)


def in_turn(actions, times):
    """Milliseconds of every action, all of them in each turn and in another order, after one untimed turn."""
    names = list(actions)
    for name in names:
        actions[name]()
    columns = {name: [] for name in actions}
    for turn in range(times):
        random.Random(turn).shuffle(names)
        for name in names:
            started = now_ms()
            actions[name]()
            columns[name].append(now_ms() - started)
    return columns


def ratio(numerators, denominators):
    """Geometric mean of paired ratios with its 95 % interval over the pairs (normal, on logarithms)."""
    logs = [math.log(n / d) for n, d in zip(numerators, denominators, strict=True)]
    middle = statistics.fmean(logs)
    if len(logs) < 3:
        return f"{math.exp(middle):.3f}"
    half = 1.96 * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(middle):.3f} ({math.exp(middle - half):.3f} to {math.exp(middle + half):.3f})"


def show(name, value, wanted=""):
    print(f"  {name:<58} {value}" + (f"   [wanted: {wanted}]" if wanted else ""), flush=True)


def middle(values, unit="ms", digits=2):
    """Median, with the quartiles."""
    if len(values) < 4:
        return f"{statistics.median(values):.{digits}f} {unit}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.{digits}f} {unit} (quartiles {low:.{digits}f} to {high:.{digits}f})"
