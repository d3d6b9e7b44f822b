"""Whether drafting is worth it while little is known of a draft."""

from __future__ import annotations

from math import exp, log, log1p

from specbench.speculation.filled_sizes import FilledSizes
from specbench.speculation.window_sizes import WindowSizes

MARGIN = 0.02  # a change must save so much of the time per token
BUDGET = 0.05  # of the time of a whole sequence alone: once drafting has lost that, it must win what it lost
FALLS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Chances of a drafted token to be refused, which are equally likely at first."""
PROBED = 4.0  # tokens after which acceptance is known better


def losses_ms(sizes: WindowSizes | FilledSizes, alone_ms: float) -> tuple[float, float]:
    """What an epoch of drafting is expected to take beyond the target alone, whatever acceptance may be.

    A gain counts for as many tokens as it would take to know better. So the less a refusal costs, the sooner
    drafting is tried.

    Args:
        alone_ms: a token of the target alone.

    Returns:
        What it is expected to lose, and the share of that for which it loses anything.
    """
    stood, fell = sizes.judged
    logs = [stood * log1p(-falls) + fell * log(falls) for falls in FALLS]
    loss_ms = risk_ms = weights = 0.0
    for falls, likely in zip(FALLS, logs, strict=True):
        weight = exp(likely - max(logs))
        ms, tokens = sizes.expected(1 - falls)
        lost_ms = ms / tokens - alone_ms
        loss_ms += weight * lost_ms * (tokens if lost_ms > 0 else min(tokens, PROBED))
        risk_ms += weight * tokens * max(lost_ms, 0.0)
        weights += weight
    return loss_ms / weights, risk_ms / weights
