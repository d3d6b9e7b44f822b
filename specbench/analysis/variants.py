"""What if the draft, or what judges it, were another? The same texts, changed: approximate, and said to be."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from specbench.analysis.schedule import Text, runs_of
from specbench.bench.traces import TracedText
from specbench.errors import SpecbenchError

AGREEMENT = "agreement"
GATES: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gate.entropy": ("entropy", operator.le),
    "gate.margin": ("margin", operator.ge),
    "gate.log_probability": ("log_probability", operator.ge),
}
"""By key, the column of a trace that a gate measures, and how it compares with the threshold."""
KEYS = (AGREEMENT, *GATES)


def variants(
    texts: Sequence[Text], traced: Sequence[TracedText], over: Mapping[str, Sequence[object]]
) -> Callable[[Mapping[str, object]], Sequence[Text]]:
    """What texts become under each condition of a grid.

    Args:
        traced: the same texts as they are stored, for what a gate measures.

    Raises:
        SpecbenchError: a value is none of its key, or two gates are asked for at once.
    """
    gates = [key for key in GATES if key in over]
    if len(gates) > 1:
        raise SpecbenchError(f"{gates[0]} and {gates[1]}: a profile has one gate", "leave out one of them")
    known: dict[tuple, Sequence[Text]] = {}

    def changed(condition: Mapping[str, object]) -> Sequence[Text]:
        values = tuple(condition.get(key) for key in KEYS)
        if values not in known:
            found = texts
            if AGREEMENT in condition:
                found = with_agreement(found, condition[AGREEMENT])
            for key in gates:
                found = gated(found, traced, key, condition[key])
            known[values] = found
        return known[values]

    return changed


def gated(texts: Sequence[Text], traced: Sequence[TracedText], key: str, threshold: object) -> Sequence[Text]:
    """The same texts behind a gate; `None` is none.

    What a gate lets pass is committed whether or not the draft agrees, so a real text would go on otherwise
    than the traced one; here it goes on as that does.

    Raises:
        SpecbenchError: the threshold is no number.
    """
    if threshold is None:
        return texts
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise SpecbenchError(f"{key}: {threshold!r} is no number", f"for example {key}=0.1,0.5")
    column, passes = GATES[key]
    found = []
    for text, known in zip(texts, traced, strict=True):
        bits = "".join("01"[passes(value, threshold)] for value in getattr(known, column))
        found.append(replace(text, sure=runs_of(bits)))
    return found


def with_agreement(texts: Sequence[Text], share: object) -> list[Text]:
    """The same texts with a draft that agrees at this share of positions: what if it were better, or worse?

    Positions change at random, each with the same chance, so what a heavy head or long runs do is weakened. A
    larger share keeps every agreement of a smaller one.

    Raises:
        SpecbenchError: `share` is no number between 0 and 1.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise SpecbenchError(
            f"agreement: {share!r} is no share between 0 and 1", "for example agreement=0.5,0.8"
        )
    bits = [run > 0 for text in texts for run in text.runs[1:]]
    known = sum(bits) / len(bits)
    coin = random.Random(0)
    changed = []
    for text in texts:
        agrees = "0"
        for run in text.runs[1:]:
            place = coin.random()  # where the position stands between the surest agreement and the last to come
            place = place * known if run else known + place * (1 - known)
            agrees += "01"[place < share]
        changed.append(Text.of(agrees, text.budget, text.prompt_tokens))
    return changed
