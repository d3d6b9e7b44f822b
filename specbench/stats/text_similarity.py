"""Similarity of lossy texts to the control's and to known answers. chrF is sacrebleu's (`[quality]`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import takewhile

from specbench.results.derived import Agreement
from specbench.results.records import Generation
from specbench.stats.verdict import pairs

References = Mapping[str, Sequence[Sequence[str]]]
NO_SACREBLEU = "chrF needs sacrebleu, which is not installed: pip install 'specbench[quality]'"


def has_sacrebleu() -> bool:
    """Whether chrF can be computed."""
    return importlib.util.find_spec("sacrebleu") is not None


def exact_match(reference: Sequence[Generation], records: Sequence[Generation]) -> float | None:
    """Share of paired generations that are equal token for token."""
    paired = pairs(reference, records)
    return sum(theirs.tokens == ours.tokens for theirs, ours in paired) / len(paired) if paired else None


def agreement(
    control: Sequence[Generation], records: Sequence[Generation], references: References, deterministic: bool
) -> Agreement:
    """A lossy method's texts beside the control's, on requests with equal prompt ids.

    Args:
        references: accepted answers of each turn, by prompt.
        deterministic: whether the same request gives the same tokens; else only texts are compared.
    """
    paired = pairs(control, records)
    prefixes = [_common_prefix(theirs.tokens, ours.tokens) for theirs, ours in paired] if deterministic else []
    return Agreement(
        exact_match=exact_match(control, records) if deterministic else None,
        common_prefix_tokens=sum(prefixes) / len(prefixes) if prefixes else None,
        chrf=_chrf([(ours.text, [theirs.text]) for theirs, ours in paired]),
        reference_chrf=_chrf(_answered([ours for _, ours in paired], references)),
        control_reference_chrf=_chrf(_answered([theirs for theirs, _ in paired], references)),
    )


def _answered(records: Sequence[Generation], references: References) -> list[tuple[str, Sequence[str]]]:
    """Texts whose right answers are known."""
    known = []
    for record in records:
        turns = references.get(record.prompt_id, ())
        if record.turn < len(turns) and turns[record.turn]:
            known.append((record.text, turns[record.turn]))
    return known


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(left, right, strict=False)))


def _chrf(texts: Sequence[tuple[str, Sequence[str]]]) -> float | None:
    """Mean chrF of texts against their references (sacrebleu's defaults: chrF2, characters only)."""
    if not texts or not has_sacrebleu():
        return None
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    return sum(metric.sentence_score(text, list(accepted)).score for text, accepted in texts) / len(texts)
