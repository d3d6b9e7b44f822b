"""Measures a cost table: real drafts and verifications of many widths, in turn, as rounds have them."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.clock import now_ms
from specbench.config import Profile
from specbench.config.costs import Costs, DraftCosts, LinkCosts, TargetCosts

if TYPE_CHECKING:
    from specbench.decoding.drafter import ModelDrafter
    from specbench.decoding.target import LocalTarget
    from specbench.wire.client import RemoteTarget

PROMPTS = (16, 64, 256)  # tokens; attention's part grows with them, so widths are measured behind all alike
LENGTHS = (1, 2, 4, 8, 16)
REPEATS = 6
DIGITS = 4
Samples = dict[tuple[str, int, int], list[float]]


def measure_costs(edge: EdgeModel, cloud: CloudModel, options: Options, description: str) -> Costs:
    """What drafting, verifying and reading prompts take where the profile places the two models: medians.

    Draft and target take turns, so that each finds the processor's caches as the other left them. Verifications
    and prompts are what the cloud says that they took; the rest of a round is `round_ms`, and
    `link.rtt_ms` what lies between the two.
    """
    from specbench.models import vocabulary

    edge.demand_same_tokens(cloud)
    drafter, target = edge.drafter(options), cloud.verifier(options)
    some_ids = vocabulary.size(cloud.tokenizer)
    samples: Samples = defaultdict(list)
    for repeat in range(REPEATS + 1):
        for tokens in PROMPTS:
            prompt = tuple(index % some_ids for index in range(100, 100 + tokens))
            request = Request(prompt, 6 * sum(LENGTHS), frozenset(), repeat)
            for part, count, unread, ms in _text(drafter, target, request):
                if repeat:  # the first one warms up
                    samples[part, count, unread].append(ms)
    return table(samples, description)


def _text(
    drafter: ModelDrafter, target: LocalTarget | RemoteTarget, request: Request
) -> Iterator[tuple[str, int, int, float]]:
    """Prefill, then rounds of all lengths: the part, its tokens, how many of them were unread, and its time.

    What the target says is not asked. Half of the drafts are told that they stood whole, for then the next one
    reads two tokens.
    """
    started = now_ms()
    drafter.begin(request)
    yield "draft prefill", len(request.prompt_ids), 0, now_ms() - started
    yield "target prefill", len(request.prompt_ids), 0, target.begin(request).verify_ms
    token = request.prompt_ids[0]
    drafter.commit([token], 0)
    unread = 1
    cases = [(length, stood) for length in LENGTHS for stood in (False, True)]
    random.Random(request.seed).shuffle(cases)
    for length, stood in cases:
        yield "verify", 1, 0, target.verify().verify_ms
        started = now_ms()
        proposal = drafter.propose(length)
        drafted = now_ms()
        commit = target.verify(proposal)
        drafter.commit([*proposal.tokens, token] if stood else [token], length if stood else 0)
        ended = now_ms()
        yield "draft", length, unread, drafted - started
        trip_ms = commit.rtt_ms or 0.0
        yield "verify", length + 1, 0, commit.verify_ms
        yield "trip", 0, 0, trip_ms
        yield "round", 0, 0, ended - drafted - commit.verify_ms - trip_ms
        unread = 2 if stood else 1


def table(samples: Samples, description: str) -> Costs:
    """Medians as a cost table; a draft's time is fitted as a constant, a step each, and one for reading two."""
    medians = {key: statistics.median(values) for key, values in samples.items()}
    constant, step_ms, read_ms = _draft({key[1:]: ms for key, ms in medians.items() if key[0] == "draft"})
    return Costs(
        description=description,
        draft=DraftCosts(
            step_ms=round(step_ms, DIGITS),
            read_ms=round(read_ms, DIGITS),
            prefill_ms=_by_count(medians, "draft prefill"),
        ),
        target=TargetCosts(
            verify_ms=_by_count(medians, "verify"), prefill_ms=_by_count(medians, "target prefill")
        ),
        link=LinkCosts(rtt_ms=round(medians["trip", 0, 0], DIGITS)),
        round_ms=round(constant + max(0.0, medians["round", 0, 0]), DIGITS),
    )


def placed(measured: Costs, profile: Profile) -> Costs:
    """A measured table with the profile's link.

    What was measured between the two is the round trip where a real or an emulated link lies between them, and
    the overhead of any where they are processes of one machine.
    """
    link, between_ms = profile.link, measured.link.rtt_ms
    rtt_ms, overhead_ms = link.rtt_ms, between_ms
    if link.kind == "emulated":
        rtt_ms, overhead_ms = between_ms, 0.0
    elif profile.cloud.is_elsewhere:
        rtt_ms, overhead_ms = between_ms + link.rtt_ms, 0.0
    between = LinkCosts(
        rtt_ms=rtt_ms,
        overhead_ms=overhead_ms,
        uplink_mbps=link.uplink_mbps,
        downlink_mbps=link.downlink_mbps,
    )
    return measured.model_copy(update={"link": between})


def _draft(medians: dict[tuple[int, int], float]) -> tuple[float, float, float]:
    """Not negative least squares of relative errors, by tokens drafted and unread."""
    import numpy as np
    from scipy.optimize import nnls

    rows = np.array([[1.0, length, unread - 1] for length, unread in medians])
    times = np.array(list(medians.values()))
    return tuple(nnls(rows / times[:, None], np.ones(len(times)))[0].tolist())


def _by_count(medians: dict[tuple[str, int, int], float], part: str) -> dict[int, float]:
    return {count: round(ms, DIGITS) for (name, count, _), ms in sorted(medians.items()) if name == part}
