"""Texts that are not the control's, side by side with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from specbench.results.records import CONTROL, SYNTHETIC, Divergence, Generation
from specbench.stats.groups import Group
from specbench.stats.verdict import pairs

TIE, BUG, UNPROVEN, EXPECTED = "tie", "bug", "not examined", "need not be the control's"


@dataclass(frozen=True)
class TextPair:
    """One request that a method answered otherwise than the control.

    Args:
        question: what was asked in this turn; `None` in runs stored before it was recorded.
        verdict: `tie` or `bug` of a lossless method, `not examined` where the run did not come to that; else
            that the text need not be the control's.
        repeats: how many repeats of the request look the same.
        shared: the beginning that both have; `control` and `other` go on from there.
    """

    method: str
    prompt_id: str
    category: str
    turn: int
    question: str | None
    verdict: str
    repeats: int
    shared: str
    control: str
    other: str
    divergence: Divergence | None

    @property
    def must_agree(self) -> bool:
        """Whether the method is lossless and deterministic, so that it must give the control's tokens."""
        return self.verdict != EXPECTED


def text_pairs(groups: Sequence[Group]) -> list[TextPair]:
    """Every paired request whose tokens differ; texts of lossless methods first, the gravest first."""
    found: dict[tuple, TextPair] = {}
    for group in groups:
        control = next((g for g in groups if g.method == CONTROL and g.run is group.run), None)
        if control is None or control is group or any(one.verification == SYNTHETIC for one in group.records):
            continue
        proofs = {
            (part.method, part.prompt_id, part.turn, part.repeat): part
            for part in group.run.manifest.divergences
        }
        for theirs, ours in pairs(control.records, group.records):
            if theirs.tokens == ours.tokens:
                continue
            proof = proofs.get((group.method, *ours.key))
            pair = _pair(group, theirs, ours, proof)
            key = (pair.method, pair.prompt_id, pair.turn, pair.verdict, theirs.text, ours.text)
            repeats = found[key].repeats + 1 if key in found else 1
            found[key] = TextPair(**{**vars(pair), "repeats": repeats})
    gravity = [BUG, UNPROVEN, TIE, EXPECTED]
    return sorted(found.values(), key=lambda pair: gravity.index(pair.verdict))


def _pair(group: Group, theirs: Generation, ours: Generation, proof: Divergence | None) -> TextPair:
    manifest = group.run.manifest
    turns = manifest.turns.get(ours.prompt_id, ())
    deterministic = manifest.profile["decoding"]["temperature"] == 0 or manifest.repeats_control.get(
        group.method
    )
    must_agree = manifest.lossless.get(group.method) and deterministic
    shared = _common_beginning(theirs.text, ours.text)
    return TextPair(
        method=group.name,
        prompt_id=ours.prompt_id,
        category=ours.category,
        turn=ours.turn,
        question=turns[ours.turn] if ours.turn < len(turns) else None,
        verdict=(proof.verdict if proof and proof.verdict else UNPROVEN) if must_agree else EXPECTED,
        repeats=1,
        shared=shared,
        control=theirs.text[len(shared) :],
        other=ours.text[len(shared) :],
        divergence=proof,
    )


def _common_beginning(left: str, right: str) -> str:
    same = takewhile(lambda both: both[0] == both[1], zip(left, right, strict=False))
    return "".join(letter for letter, _ in same)
