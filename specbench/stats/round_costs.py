"""What rounds cost: bytes both ways, where the time went, and how much of the round trip was hidden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specbench.results.derived import RoundCosts
from specbench.results.records import Generation, Round


def round_costs(records: Sequence[Generation]) -> RoundCosts | None:
    """Sums over sums, over all rounds behind the first of each text; `None` where nothing is known.

    The first round carries the prompt and is part of TTFT, as it is left out of TPOT.
    """
    rounds = [part for record in records for part in record.rounds[1:]]
    tokens = sum(len(part.tokens) for part in rounds)
    drafting = [part for part in rounds if part.drafted is not None]
    sent = [part for part in drafting if part.drafted and part.bytes_up is not None]
    # Drafts that are streamed were never sent: the frame that asked for the stream carried none.
    asked = [] if any(part.streamed for part in sent) else sent
    elapsed_ms = sum(record.arrival_ms[-1] - record.arrival_ms[0] for record in records) if drafting else 0.0
    ahead = [part for part in drafting if part.wasted_draft_tokens is not None]
    restoring = [part for part in rounds if part.replayed_tokens is not None]
    prefilling = [part for part in rounds if part.prefilled is not None]
    costs = RoundCosts(
        bytes_up_per_token=_ratio(_known(part.bytes_up for part in rounds), tokens),
        bytes_down_per_token=_ratio(_known(part.bytes_down for part in rounds), tokens),
        feature_bytes_per_token=_ratio(_known(part.feature_bytes for part in rounds), tokens),
        bytes_up_per_drafted_token=_ratio(
            _known(part.bytes_up for part in asked), sum(part.drafted or 0 for part in asked)
        ),
        draft_share=_ratio(_known(part.draft_ms for part in rounds), elapsed_ms),
        link_share=_ratio(_known(part.link_ms for part in rounds), elapsed_ms),
        verify_share=_ratio(_known(part.verify_ms for part in rounds), elapsed_ms),
        hidden_share=hidden_share(ahead),
        wasted_per_round=_ratio(_known(part.wasted_draft_tokens for part in ahead), len(ahead)),
        caught_share=caught_share(ahead),
        wasted_bytes_per_token=_ratio(_known(part.wasted_bytes for part in rounds), tokens),
        wasted_verify_share=_ratio(_known(part.wasted_verify_ms for part in rounds), elapsed_ms),
        prefilled_per_round=_ratio(_known(part.prefilled for part in prefilling), len(prefilling)),
        prefill_ms_per_round=_ratio(_known(part.verify_ms for part in prefilling), len(prefilling)),
        replayed_per_round=_ratio(_known(part.replayed_tokens for part in restoring), len(restoring)),
        snapshot_bytes_per_round=_ratio(_known(part.snapshot_bytes for part in restoring), len(restoring)),
    )
    return costs if costs != RoundCosts() else None


def hidden_share(rounds: Sequence[Round]) -> float | None:
    """Share of the round trips during which a method that drafts ahead did what it had to do anyway.

    The round trip of a round begins when a proposal is sent and ends when its verdict is there: both ways and
    the verification, or the verification alone where there is no link. The edge stands still for
    `wait_ms` of it, and drafts ahead for the rest. That rest is hidden where what was drafted ahead stood;
    where it was dropped the edge might as well have waited, and nothing is hidden. Σ hidden ÷ Σ round
    trip, over the rounds whose round trip is known: over a real wire too low, for there a verdict that was here
    before anybody looked, and so was hidden whole, has none.

    It is what drafting ahead can have saved, not what it did: guessing the target's own token takes a step that
    drafting after the verdict does not need, and on one machine both models share its memory.
    """
    hidden = total = 0.0
    for part in rounds:
        round_trip_ms = _round_trip_ms(part)
        if round_trip_ms is None or part.wait_ms is None:
            continue
        total += round_trip_ms
        if part.ready_draft_tokens or not part.wasted_draft_tokens:
            hidden += min(max(round_trip_ms - part.wait_ms, 0.0), round_trip_ms)
    return _ratio(hidden, total)


def caught_share(rounds: Sequence[Round]) -> float | None:
    """Share of the refusals behind which the next proposal was there; `None` where none ever was."""
    refused = [part for part in rounds if (part.accepted or 0) < (part.drafted or 0)]
    caught = sum(bool(part.ready_draft_tokens) for part in refused)
    return caught / len(refused) if caught else None


def _round_trip_ms(part: Round) -> float | None:
    if part.verify_ms is None or (part.bytes_up is not None and part.link_ms is None):
        return None  # it came over a wire, and was here before anybody looked
    return part.verify_ms + (part.link_ms or 0.0)


def _known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float) -> float | None:
    return part / whole if part is not None and whole else None
