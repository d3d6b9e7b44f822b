"""Where a lossless method departs from the control, and the proof that it is a tie, or else a bug."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from specbench.api import CloudModel, Options, Request
from specbench.results.records import Divergence, Generation
from specbench.speculation.ties import Evidence, Pass

TIE, BUG = "tie", "bug"
VERDICTS = {True: TIE, False: BUG, None: None}


def first_divergence(control: Sequence[int], other: Sequence[int]) -> int | None:
    """The first position at which two texts differ; one may have ended there. `None` if they are equal."""
    for position, (left, right) in enumerate(zip_longest(control, other)):
        if left != right:
            return position
    return None


def passes_of(generation: Generation) -> tuple[Pass, ...]:
    """What each pass of the target read and led to, as `speculation.ties` repeats it."""
    first, *following = generation.rounds
    with_prompt = None if first.prefilled is None else first.prefilled - generation.prompt_tokens
    passes: list[Pass] = [(with_prompt, first.tokens, False)]
    for part in following:
        if part.pass_tokens == 0:  # judged in the pass of the round before
            passes[-1] = passes[-1][0], (*passes[-1][1], *part.tokens), False
        else:
            drafted = part.drafted if part.pass_tokens is None else part.pass_tokens - 1
            passes.append((drafted, part.tokens, part.depth is not None))
    return tuple(passes)


@dataclass(frozen=True)
class Prover:
    """Has a position computed as the control did, and as the method did, where the cloud is.

    Args:
        request_of: the request that a generation answered.
    """

    cloud: CloudModel
    options: Options
    request_of: Callable[[Generation], Request]

    def judge(self, control: Generation, other: Generation) -> Divergence | None:
        """The first departure of a generation from the control's, with its proof; `None` if there is none."""
        position = first_divergence(control.tokens, other.tokens)
        if position is None:
            return None
        found = Divergence(
            method=other.method,
            prompt_id=other.prompt_id,
            turn=other.turn,
            repeat=other.repeat,
            position=position,
            tokens=(_at(control.tokens, position), _at(other.tokens, position)),
            verdict=BUG,
        )
        if None in found.tokens:
            return found  # equal tokens and equal rules end at one place
        seen = self._evidence(control, passes_of(other), found)
        if not seen.is_tie and (control.interrupted or other.interrupted):
            # Whoever lost the cloud had the text read again, in passes that no round tells of.
            seen = self._evidence(control, [(None, part.tokens, False) for part in other.rounds], found)
        return replace(
            found,
            top2_margin=seen.top2_margin,
            margin=seen.margin,
            noise=seen.noise,
            width=seen.width,
            plausible=seen.plausible,
            verdict=VERDICTS[seen.is_tie],
        )

    def _evidence(self, control: Generation, passes: Sequence[Pass], found: Divergence) -> Evidence:
        left, right = found.tokens
        assert left is not None
        assert right is not None
        return self.cloud.evidence(
            self.options,
            self.request_of(control),
            control.tokens[: found.position],
            tuple(passes),
            (left, right),
        )


def divergences(
    generations: Iterable[Generation], control: str, methods: Iterable[str], prover: Prover
) -> list[Divergence]:
    """Every departure of `methods` from the control on equal prompts; equal repeats share a proof."""
    records = list(generations)
    controls = {record.key: record for record in records if record.method == control}
    wanted = set(methods) - {control}
    proofs: dict[tuple, Divergence | None] = {}
    found: list[Divergence] = []
    for record in records:
        reference = controls.get(record.key)
        if record.method not in wanted or reference is None:
            continue
        if record.prompt_sha256 != reference.prompt_sha256:
            continue  # an earlier turn differed, so this one asks something else
        case = (
            record.prompt_sha256,
            reference.tokens,
            passes_of(record),
            reference.interrupted or record.interrupted,
        )
        if case not in proofs:
            proofs[case] = prover.judge(reference, record)
        if proof := proofs[case]:
            found.append(
                replace(proof, method=record.method, prompt_id=record.prompt_id, turn=record.turn,
                        repeat=record.repeat)
            )  # fmt: skip
    return found


def _at(tokens: Sequence[int], position: int) -> int | None:
    return tokens[position] if position < len(tokens) else None
