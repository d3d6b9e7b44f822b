"""Lengths chosen by themselves, and drafting ahead, at several round trips: run by hand, on a quiet machine.

    python tests/perf/draft_lengths.py [--set cloud.placement=process] [--limit 8] [--rtt 20 50 100]

At every round trip all candidates answer the same prompts, interleaved. Shown are time per output token of
`speculative` at each fixed length and with `auto` (over the best fixed one: at most 1.05), and of
`speculative_pipelined` over `speculative` at the same length (at most 1.00) and over what its own rounds should
take with the costs that `speculative` measured (at most 1.10). Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.benchmark import conversation
from specbench.benchmark.preparation import configure_torch
from specbench.benchmark.tuning import AtSettings
from specbench.benchmark.workload import load_prompts
from specbench.clock import now_ms
from specbench.profile import LinkSpec, load_profile
from specbench.registry import discover

LENGTHS = (2, 4, 6, 8, 12, 16)


def timed(decoder, request):
    """Time per output token of one answer, and its rounds."""
    arrivals, rounds = [], []
    for part in decoder.generate(request):
        arrivals.append(now_ms())
        rounds.append(part)
    following = sum(len(part.tokens) for part in rounds[1:])
    return ((arrivals[-1] - arrivals[0]) / following if following else None), rounds


def mean(values):
    """Geometric."""
    return math.exp(statistics.mean(map(math.log, values)))


def round_trip_ms(part):
    return part.verify_ms + (part.link_ms or 0.0)


def predicted_ms(ahead, synchronous):
    """TPOT of rounds that were drafted ahead, by what stood and the costs of the same rounds without that."""
    parts = synchronous[1:]
    drafted = sum(part.drafted for part in parts)
    step_ms = sum(part.draft_ms for part in parts) / drafted if drafted else 0.0
    window_ms = statistics.mean(round_trip_ms(part) for part in parts)
    spent, stood = 0.0, False
    for part in ahead[1:]:
        drafting = part.drafted * step_ms
        spent += window_ms + (max(0.0, drafting + step_ms - window_ms) if stood else drafting)
        stood = part.accepted == part.drafted and not part.wasted_draft_tokens
    return spent / sum(len(part.tokens) for part in ahead[1:])


def measured(profile, requests, edge, link):
    """By candidate (method, length) and prompt: TPOT and rounds."""
    cloud = CloudModel(profile.cloud, profile.engine, link=link)
    cloud.draft = edge
    options, methods = Options.of(profile), discover().methods
    wanted = [("speculative", length) for length in (*LENGTHS, "auto")]
    wanted += [("speculative_pipelined", length) for length in LENGTHS]
    try:
        decoders = {
            key: AtSettings(methods[key[0]], str(key[1]), {"speculative.draft_length": key[1]}).open(
                edge, cloud, options
            )
            for key in wanted
        }
        found = {key: [] for key in wanted}
        for turn, request in enumerate([requests[0], *requests]):  # the first one warms up
            for key in random.Random(turn).sample(wanted, len(wanted)):
                answer = timed(decoders[key], request)
                if turn:
                    found[key].append(answer)
    finally:
        cloud.close()
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rtt", type=float, nargs="+", default=[20.0, 50.0, 100.0])
    arguments = parser.parse_args()
    given = {"workload.limit": arguments.limit, "workload.max_new_tokens": arguments.max_new_tokens}
    profile = load_profile(arguments.profile, arguments.set, given)
    configure_torch(profile)
    edge, here = EdgeModel(profile.edge, profile.engine), CloudModel(profile.cloud, profile.engine)
    requests = [
        Request(
            tuple(conversation.prompt_ids(here.tokenizer, prompt.turns[:1], ())),
            arguments.max_new_tokens, here.stop_ids, seed=index,
        )
        for index, prompt in enumerate(load_prompts(profile.workload))
    ]  # fmt: skip
    missed = []
    for rtt_ms in arguments.rtt:
        found = measured(profile, requests, edge, LinkSpec(rtt_ms=rtt_ms))
        kept = [index for index in range(len(requests)) if all(each[index][0] for each in found.values())]
        tpot = {key: mean(each[index][0] for index in kept) for key, each in found.items()}
        best = min(LENGTHS, key=lambda length: tpot["speculative", length])
        shown = ", ".join(f"{length}: {tpot['speculative', length]:.2f}" for length in (*LENGTHS, "auto"))
        ratio = tpot["speculative", "auto"] / tpot["speculative", best]
        print(f"{rtt_ms:g} ms: speculative {shown} ms a token; auto is {ratio:.3f} of the best, {best}")
        missed += [f"auto at {rtt_ms:g} ms"] * (ratio > 1.05)
        for length in LENGTHS:
            pipelined, plain = found["speculative_pipelined", length], found["speculative", length]
            over = mean(pipelined[index][0] / plain[index][0] for index in kept)
            replay = mean(
                pipelined[index][0] / predicted_ms(pipelined[index][1], plain[index][1]) for index in kept
            )
            print(f"  pipelined at {length}: {over:.3f} of speculative, {replay:.3f} of its replay", flush=True)
            missed += [f"pipelined at {rtt_ms:g} ms, length {length}"] * (over > 1.0 or replay > 1.1)
    for line in missed:
        print(f"missed: {line}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
