"""Which drafted tokens the target accepts: pure functions, no model, no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """How many drafted tokens stand, and the target's own token behind them (bonus or correction)."""

    accepted: int
    next_token: int


def greedy(drafted: Sequence[int], target_choices: Sequence[int]) -> Verdict:
    """Accept while the draft equals the target's argmax. Lossless at temperature 0.

    Args:
        drafted: the proposed ids, any number.
        target_choices: the target's choice at each drafted position and behind the last one, so one
            id more than `drafted`.

    Source: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", the
    temperature-zero case of algorithm 1.
    """
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == target_choices[accepted]:
        accepted += 1
    return Verdict(accepted=accepted, next_token=target_choices[accepted])


def cut(tokens: Sequence[int], budget: int, stop_ids: frozenset[int]) -> tuple[tuple[int, ...], str | None]:
    """What of a verified block is committed: up to its first stop token, and never beyond the budget.

    Returns:
        The committed ids, and `stop`, `length`, or `None` while the text goes on.
    """
    for index, token in enumerate(tokens[:budget]):
        if token in stop_ids:
            return tuple(tokens[: index + 1]), "stop"
    return tuple(tokens[:budget]), "length" if len(tokens) >= budget else None
