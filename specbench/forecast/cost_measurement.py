"""Measures a cost table: real drafts and verifications of many widths, in turn, as rounds have them."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, cast

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.clock import now_ms
from specbench.engine.rereading import passes
from specbench.profile import Profile
from specbench.profile.cost_table import Costs, DraftCosts, LinkCosts, TargetCosts

if TYPE_CHECKING:
    from specbench.cloud.transport.remote_target import RemoteTarget
    from specbench.speculation.drafter import ModelDrafter
    from specbench.speculation.target import LocalTarget

PROMPTS = (16, 64, 256)  # tokens; attention's part grows with them, so widths are measured behind all alike
LENGTHS = (1, 2, 4, 8, 16)
REPEATS = 6
DIGITS = 4
STREAMED = 24  # tokens of a stream
OVERLAPPED, OVERLAPPED_LENGTH = 8, 4  # verifications beside which the draft goes on, and their tokens
Samples = dict[tuple[str, int, int], list[float]]
Measured = Iterator[tuple[str, int, int, float]]


def measure_costs(edge: EdgeModel, cloud: CloudModel, options: Options, description: str) -> Costs:
    """What drafting, verifying and reading prompts take where the profile places the two models: means.

    Draft and target take turns, so that each finds the processor's caches as the other left them. Verifications
    and prompts are what the cloud says that they took; the rest of a round is `round_ms`, and `link.rtt_ms`
    what lies between the two. A step of the target alone is one of a stream, whose remaining time is
    `stream_ms`. Where both run on this machine, they are measured at the same time, too.
    """
    from specbench.models import vocabulary

    edge.demand_same_tokens(cloud)
    drafter = edge.drafter(options)
    # A server of another engine is refused before.
    target = cast("LocalTarget | RemoteTarget", cloud.verifier(options))
    stream = cast("LocalTarget | RemoteTarget", cloud.target(options))
    is_one_machine = cloud.spec.placement in ("in_process", "process")
    some_ids = vocabulary.size(cloud.tokenizer)
    samples: Samples = defaultdict(list)
    for repeat in range(REPEATS + 1):
        for tokens in PROMPTS:
            prompt = tuple(index % some_ids for index in range(100, 100 + tokens))
            request = Request(prompt, 8 * sum(LENGTHS), frozenset(), repeat)
            parts = [_rounds(drafter, target, request), _streamed(stream, request)]
            parts += [_at_once(drafter, target, request)] if is_one_machine else []
            for part, count, unread, ms in chain(*parts):
                if repeat:  # the first one warms up
                    samples[part, count, unread].append(ms)
    return table(samples, description)


def _begun(drafter: ModelDrafter, target: LocalTarget | RemoteTarget, request: Request) -> Measured:
    """Prefill on both sides."""
    started = now_ms()
    drafter.begin(request)
    yield "draft prefill", len(request.prompt_ids), 0, now_ms() - started
    yield "target prefill", len(request.prompt_ids), 0, target.begin(request).verify_ms or 0.0
    drafter.commit([request.prompt_ids[0]], 0)


def _rounds(drafter: ModelDrafter, target: LocalTarget | RemoteTarget, request: Request) -> Measured:
    """Prefill, then rounds of all lengths: the part, its tokens, how many of them were unread, and its time.

    What the target says is not asked. Half of the drafts are told that they stood whole, for then the next one
    reads two tokens. Of a target that restores its state, `replayed` is how many tokens it read again.
    """
    yield from _begun(drafter, target, request)
    token, unread = request.prompt_ids[0], 1
    cases = [(length, stood) for length in LENGTHS for stood in (False, True)]
    random.Random(request.seed).shuffle(cases)
    for length, stood in cases:
        started = now_ms()
        proposal = drafter.propose(length)
        drafted = now_ms()
        commit = target.verify(proposal)
        drafter.commit([*proposal.tokens, token] if stood else [token], length if stood else 0)
        ended = now_ms()
        verify_ms, trip_ms = commit.verify_ms or 0.0, commit.rtt_ms or 0.0
        yield "draft", length, unread, drafted - started
        if commit.replayed_tokens is not None:
            yield "replayed", 0, 0, commit.replayed_tokens
        widths = passes(commit.replayed_tokens or 0, length + 1)
        if len(widths) == 1:
            yield "verify", widths[0], 0, verify_ms
        yield "trip", 0, 0, trip_ms
        yield "round", 0, 0, ended - drafted - verify_ms - trip_ms
        unread = 2 if stood else 1


def _streamed(target: LocalTarget | RemoteTarget, request: Request) -> Measured:
    """Steps of the target alone, as a stream brings them."""
    target.begin(replace(request, max_new_tokens=STREAMED))
    arrived = now_ms()
    for number, part in enumerate(target.decode()):
        before, arrived = arrived, now_ms()
        if number:  # the first one waits for the request's way, and the last before it for the first
            yield "verify", 1, 0, part.verify_ms or 0.0
            yield "stream", 0, 0, arrived - before - (part.verify_ms or 0.0)


def _at_once(drafter: ModelDrafter, target: LocalTarget | RemoteTarget, request: Request) -> Measured:
    """Draft steps while a verification is under way, and verifications while the draft drafts on.

    Steps that end when the verdict is there are left out, for part of them had the machine to itself.
    """
    for _ in _begun(drafter, target, request):
        pass
    for _ in range(OVERLAPPED):
        pending = target.submit(drafter.propose(OVERLAPPED_LENGTH))
        steps = []
        while not pending.is_done:
            started = now_ms()
            drafter.draft_ahead()
            steps.append(now_ms() - started)
        commit = pending.result()
        drafter.commit([request.prompt_ids[0]], 0)
        if not commit.replayed_tokens:
            yield "verify at once", OVERLAPPED_LENGTH + 1, 0, commit.verify_ms or 0.0
        for ms in steps[:-1]:
            yield "draft at once", 1, 1, ms


def table(samples: Samples, description: str) -> Costs:
    """Means as a cost table; a draft's time is fitted as a constant, a step each, and one for reading two."""
    means = {key: statistics.fmean(values) for key, values in samples.items()}
    constant, step_ms, read_ms = _draft({key[1:]: ms for key, ms in means.items() if key[0] == "draft"})
    return Costs(
        description=description,
        draft=DraftCosts(
            step_ms=round(step_ms, DIGITS),
            read_ms=round(read_ms, DIGITS),
            prefill_ms=_by_count(means, "draft prefill"),
            overlap_slowdown=_slowdown(means, ("draft at once", 1, 1), constant + step_ms),
        ),
        target=TargetCosts(
            verify_ms=_by_count(means, "verify"),
            restores_state=bool(means.get(("replayed", 0, 0))),
            prefill_ms=_by_count(means, "target prefill"),
            overlap_slowdown=_slowdown(
                means,
                ("verify at once", OVERLAPPED_LENGTH + 1, 0),
                means.get(("verify", OVERLAPPED_LENGTH + 1, 0), 0.0),
            ),
        ),
        link=LinkCosts(rtt_ms=round(means["trip", 0, 0], DIGITS)),
        round_ms=round(constant + max(0.0, means["round", 0, 0]), DIGITS),
        stream_ms=round(max(0.0, means["stream", 0, 0]), DIGITS),
    )


def _slowdown(means: Mapping[tuple[str, int, int], float], key: tuple[str, int, int], alone_ms: float) -> float:
    """How many times as long something takes at the same time; 1 where that was not measured."""
    at_once_ms = means.get(key)
    return 1.0 if at_once_ms is None or not alone_ms else round(max(1.0, at_once_ms / alone_ms), DIGITS)


def placed(measured: Costs, profile: Profile) -> Costs:
    """A measured table with the profile's link and prices.

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
    prices = {"prices": profile.prices} if profile.prices.is_set else {}
    return measured.model_copy(update={"link": between, **prices})


def _draft(means: dict[tuple[int, int], float]) -> tuple[float, float, float]:
    """Not negative least squares of relative errors, by tokens drafted and unread."""
    import numpy as np
    from scipy.optimize import nnls

    rows = np.array([[1.0, length, unread - 1] for length, unread in means])
    times = np.array(list(means.values()))
    return tuple(nnls(rows / times[:, None], np.ones(len(times)))[0].tolist())


def _by_count(means: dict[tuple[str, int, int], float], part: str) -> dict[int, float]:
    return {count: round(ms, DIGITS) for (name, count, _), ms in sorted(means.items()) if name == part}
