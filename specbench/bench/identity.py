"""Where a lossless method departs from the control, and the proof that it is a tie, or else a bug.

A pass over several tokens sums in another order than single steps do, so scores differ in their last bits, and
two tokens that are nearly tied may change places. That is claimed only where it is seen: both computations are
repeated through the engine's own sessions, and the tie must be no wider than their difference allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from specbench.api import CloudModel, Options, Request
from specbench.records import Divergence, Generation

if TYPE_CHECKING:
    import torch

    from specbench.decoding.engine import KVSession

TIE, BUG = "tie", "bug"
LONGEST_DRAFT = 64  # of any profile


def compared(row: torch.Tensor, context: Sequence[int], options: Options, seed: int) -> torch.Tensor:
    """The scores whose maximum is the token that the target says; minus infinity where it is cut off.

    Args:
        row: logits of one position, shape (vocabulary,).
        context: all ids before it; their number is the absolute position.
        seed: of the request, for rules that draw.
    """
    from specbench.decoding.sampling import Scorer

    scorer = Scorer(options.decoding, seed, options.speculative.verification == "coupled")
    return scorer.compared(scorer.penalized(row[None], context), len(context))[0]


def first_divergence(control: Sequence[int], other: Sequence[int]) -> int | None:
    """The first position at which two texts differ; one may have ended there. `None` if they are equal."""
    for position, (left, right) in enumerate(zip_longest(control, other)):
        if left != right:
            return position
    return None


@dataclass(frozen=True)
class Prover:
    """Recomputes a position as the control did, and as the method did.

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
        left, right = found.tokens
        if left is None or right is None:
            return found  # equal tokens and equal rules end at one place
        request = self.request_of(control)
        single = self._by_single_steps(request, control.tokens[:position])
        wide, width = self._by_rounds(request, other, position)
        context = [*request.prompt_ids, *control.tokens[:position]]
        scores, others = (compared(row, context, self.options, request.seed).double() for row in (single, wide))
        crossed = (scores[[left, right]].isfinite() != others[[left, right]].isfinite()).any()
        if crossed and (int(scores.argmax()), int(others.argmax())) == (left, right):
            # A token fell on the other side of a top-p or top-k cut-off, and does so again: the distance to the
            # cut-off changed its sign between the widths, so it is smaller than their difference.
            return replace(found, width=width, verdict=TIE)
        highest = scores.topk(2).values.tolist()
        known = scores.isfinite() & others.isfinite()
        noise = float((scores - others)[known].abs().max())
        margin = abs(float(scores[left] - scores[right]))
        return replace(
            found,
            top2_margin=highest[0] - highest[1],
            margin=margin,
            noise=noise,
            width=width,
            verdict=TIE if margin <= 2 * noise else BUG,
        )

    def _session(self, request: Request) -> KVSession:
        room = len(request.prompt_ids) + request.max_new_tokens
        return self.cloud.engine.session(room + LONGEST_DRAFT)  # what was refused is read again too

    def _by_single_steps(self, request: Request, tokens: Sequence[int]) -> torch.Tensor:
        """Logits behind `tokens`, as the control computes them."""
        session = self._session(request)
        logits = session.prefill(request.prompt_ids)
        for token in tokens:
            logits = session.extend([token])
        return logits[-1]

    def _by_rounds(self, request: Request, other: Generation, position: int) -> tuple[torch.Tensor, int]:
        """Logits of a position by the passes that the method made, and the width of the deciding one.

        What was drafted and refused is not stored; other tokens stand in for it, for no row depends on what
        follows it. A method that drafts nothing says nothing of its passes: then the whole text is read in one.
        """
        session = self._session(request)
        if all(part.drafted is None for part in other.rounds):
            text = [*request.prompt_ids, *other.tokens[:position]]
            return session.prefill(text)[-1], len(text)
        logits = session.prefill(request.prompt_ids)
        committed = list(other.rounds[0].tokens)
        if position == 0:
            return logits[-1], len(request.prompt_ids)
        if len(committed) > 1:
            logits = session.extend(committed[:-1])
            if position < len(committed):
                return logits[position - 1], len(committed) - 1
        for part in other.rounds[1:]:
            width = max(1 + (part.drafted or 0), len(part.tokens))
            block = [committed[-1], *part.tokens, *[part.tokens[-1]] * width][:width]
            logits = session.extend(block)
            row = position - len(committed)
            if row < len(part.tokens):
                return logits[row], width
            committed.extend(part.tokens)
            session.truncate(len(request.prompt_ids) + len(committed) - 1)
        raise AssertionError("a position behind the end of both texts")


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
        passes = tuple((part.drafted, part.tokens) for part in record.rounds)
        case = (record.prompt_sha256, reference.tokens, passes)
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
