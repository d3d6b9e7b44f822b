"""How likely other verification rules accept a draft, from the likeliest tokens of both distributions alone.

Approximate twice over: the tails are missing, and the text that such a rule writes would have been another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from specbench.forecast.acceptance_trace import Top, TracedText
from specbench.profile import Decoding, Speculative

Shares = Mapping[int, float]


def chances(text: TracedText, decoding: Decoding, spec: Speculative) -> Iterator[float]:
    """By position, how likely the draft's token is accepted there.

    The formulas are those of `specbench.speculation.rules`; a coupled draft says what the target says with
    probability sum_i 1 / sum_j max(p_j / p_i, q_j / q_i), for both draw with the same Gumbel noise.
    """
    rule, columns = spec.verification, (text.draft_top or (), text.target_top or (), text.target_rank or ())
    for draft, target, rank in zip(*columns, strict=True):
        q, p = shares(draft, decoding), shares(target, decoding)
        choice = draft[0][0]
        if rule == "greedy":
            yield float(rank == 0)
        elif rule == "coupled":
            yield _coupled(q, p)
        elif rule == "one_hot":
            yield p.get(choice, 0.0)
        elif rule == "rank":
            # Where the target is sure its list is short, and the choice's rank is known without it.
            likeliest = {*target[0][: spec.rank], *([choice] if rank < spec.rank else ())}
            drawn = sum(share for token, share in q.items() if token in likeliest)
            yield drawn if decoding.temperature else float(rank < spec.rank)
        elif rule == "typical":
            soft, entropy = _soft(target, decoding)
            bound = min(spec.typical_epsilon, spec.typical_delta * math.exp(-entropy))
            yield sum(share for token, share in q.items() if soft.get(token, 0.0) > bound)
        else:  # `block` keeps what `rejection` would, and more
            yield sum(min(share, p.get(token, 0.0)) for token, share in q.items())


def shares(top: Top, decoding: Decoding) -> Shares:
    """Probabilities at a temperature, behind min-p, top-k and top-p, of the tokens that are listed."""
    ids, logs = top
    if decoding.temperature == 0:
        return {ids[0]: 1.0}
    weights = [math.exp((log - logs[0]) / decoding.temperature) for log in logs]
    weights = [weight for weight in weights if weight >= decoding.min_p * weights[0]]
    if decoding.top_k:
        weights = weights[: decoding.top_k]
    whole, before = sum(weights), 0.0
    kept: list[float] = []
    for weight in weights:
        if kept and before >= decoding.top_p * whole:
            break
        kept.append(weight)
        before += weight
    return {token: weight / sum(kept) for token, weight in zip(ids, kept, strict=False)}


def _soft(target: Top, decoding: Decoding) -> tuple[Shares, float]:
    """How sure the target is, at temperature 1 where decoding is greedy: shares, and their entropy in nats.

    At temperature 1 the listed shares are the true ones; what is missing is taken for tokens as likely as the
    last that is listed, which is the least entropy that it can have.
    """
    soft = shares(target, decoding if decoding.temperature else Decoding(temperature=1.0))
    if decoding.temperature in (0, 1) and not decoding.top_k and not decoding.min_p:
        soft = {token: math.exp(log) for token, log in zip(*target, strict=True)}
    missing = max(0.0, 1 - sum(soft.values()))
    entropy = -sum(share * math.log(share) for share in soft.values() if share)
    return soft, entropy - missing * math.log(min(soft.values()))


def _coupled(q: Shares, p: Shares) -> float:
    both = [token for token in q if p.get(token) and q[token]]
    known = {*q, *p}
    return sum(
        1 / sum(max(p.get(other, 0.0) / p[token], q.get(other, 0.0) / q[token]) for other in known)
        for token in both
    )
