"""The modelled link against the emulated one, on the same prompts: run by hand as root, on a quiet machine.

    python tests/perf/link_models.py [--limit 4] [--max-new-tokens 48]

For every link two servers answer the same edge: one on loopback behind the modelled link, one across two
network namespaces, whose packets really wait. Prompts, methods and links take turns (A B, B A, ...). Shown is
the ratio of geometric means of the time per output token, modelled over emulated; exit status 1 when one is
more than 10 % off. Links that lose packets are shown and not judged: what is lost is chance on either side.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.benchmark import conversation
from specbench.benchmark.preparation import configure_torch
from specbench.benchmark.workload import load_prompts
from specbench.clock import now_ms
from specbench.cloud.link import emulated
from specbench.profile import LinkSpec, load_profile
from specbench.registry import discover

MARGIN = 0.10
METHODS = ("speculative", "cloud_optimized_baseline")
LINKS = [
    {"rtt_ms": 5},
    {"rtt_ms": 20},
    {"rtt_ms": 50},
    {"rtt_ms": 100},
    {"rtt_ms": 20, "jitter_ms": 5},
    {"rtt_ms": 20, "uplink_mbps": 2, "downlink_mbps": 10},
    {"rtt_ms": 20, "loss": 0.01},
]


def per_token_ms(decoder, request):
    """TPOT of one answer, and its tokens."""
    arrivals, tokens = [], []
    for part in decoder.generate(request):
        arrivals.append(now_ms())
        tokens.append(part.tokens)
    following = sum(map(len, tokens[1:]))
    ids = [token for part in tokens for token in part]
    return ((arrivals[-1] - arrivals[0]) / following if following else None), ids


def compared(profile, requests, edge, link):
    """By method: log ratios of TPOT, modelled over emulated, by prompt; and the median TPOT of either."""
    state = emulated.up(link)
    clouds = {
        kind: CloudModel(
            profile.cloud, profile.engine, link=link.model_copy(update={"kind": kind}), placement="process"
        )
        for kind in ("modelled", "emulated")
    }
    try:
        options = Options.of(profile)
        decoders = {
            name: {kind: discover().get(name).open(edge, cloud, options) for kind, cloud in clouds.items()}
            for name in METHODS
        }
        logs, seen = {name: [] for name in METHODS}, {name: {kind: [] for kind in clouds} for name in METHODS}
        for turn, request in enumerate([requests[0], *requests]):  # the first one warms up
            for name in METHODS:
                kinds = list(clouds)[:: 1 if turn % 2 else -1]
                found = {kind: per_token_ms(decoders[name][kind], request) for kind in kinds}
                (modelled, text), (real, other) = found["modelled"], found["emulated"]
                assert text == other, "a link changed the text"
                if turn and modelled and real:
                    logs[name].append(math.log(modelled / real))
                    seen[name]["modelled"].append(modelled)
                    seen[name]["emulated"].append(real)
    finally:
        for cloud in clouds.values():
            cloud.close()
        emulated.down()
    return state.how, logs, seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--links", type=int, default=len(LINKS), help="only the first so many")
    arguments = parser.parse_args()
    given = {"workload.limit": arguments.limit, "workload.max_new_tokens": arguments.max_new_tokens}
    profile = load_profile(arguments.profile, arguments.set, given)
    emulated.demand_root()
    configure_torch(profile)
    edge, cloud = EdgeModel(profile.edge, profile.engine), CloudModel(profile.cloud, profile.engine)
    requests = [
        Request(
            tuple(conversation.prompt_ids(cloud.tokenizer, prompt.turns[:1], ())),
            arguments.max_new_tokens, cloud.stop_ids, seed=index,
        )
        for index, prompt in enumerate(load_prompts(profile.workload))
    ]  # fmt: skip
    off = []
    for values in LINKS[: arguments.links]:
        link = LinkSpec(**values)
        how, logs, seen = compared(profile, requests, edge, link)
        for name in METHODS:
            ratio = math.exp(statistics.mean(logs[name]))
            is_judged = not link.loss
            if is_judged and abs(math.log(ratio)) > math.log(1 + MARGIN):
                off.append((values, name))
            modelled, real = (statistics.median(seen[name][kind]) for kind in ("modelled", "emulated"))
            print(
                f"{values} by {how}, {name}: {modelled:.2f} ms modelled, {real:.2f} ms emulated a token "
                f"(medians of {len(logs[name])}); ratio {ratio:.3f}{'' if is_judged else ' (not judged)'}",
                flush=True,
            )
    for values, name in off:
        print(f"more than {MARGIN:.0%} off: {name} over {values}")
    sys.exit(bool(off))


if __name__ == "__main__":
    main()
