"""Whether two tokens were nearly tied: a position computed as single steps do, and as a method's passes did.

A pass over several tokens sums in another order than single steps do, so scores differ in their last bits, and
two tokens that are nearly tied may change places. Both computations are repeated, where the model is, through
the engine's own sessions, and a tie must be no wider than their difference allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbench.config.decoding import LONGEST_DRAFT
from specbench.decoding.request import Request

if TYPE_CHECKING:
    import torch

    from specbench.config import Options
    from specbench.decoding.engine import Engine, KVSession


Pass = tuple[int | None, tuple[int, ...]]
"""What a round drafted, if it drafts at all, and what it committed."""


@dataclass(frozen=True)
class Evidence:
    """What was seen at a position; fields as of `Divergence`.

    Args:
        is_tie: the margin is within the noise, or a token crossed a cut-off between the two computations;
            `None` where they cannot be repeated.
    """

    width: int
    is_tie: bool | None
    top2_margin: float | None = None
    margin: float | None = None
    noise: float | None = None


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


def evidence(
    engine: Engine,
    options: Options,
    request: Request,
    text: Sequence[int],
    passes: Sequence[Pass],
    pair: tuple[int, int],
) -> Evidence:
    """Compute the position behind `text` both ways.

    Args:
        text: committed ids that both texts begin with.
        passes: the method's rounds, from the first one.
        pair: the control's token at that position, and the method's.
    """
    left, right = pair
    single = by_single_steps(engine, request, text)
    wide, width = by_rounds(engine, request, text, passes)
    context = [*request.prompt_ids, *text]
    scores, others = (compared(row, context, options, request.seed).double() for row in (single, wide))
    crossed = (scores[[left, right]].isfinite() != others[[left, right]].isfinite()).any()
    if crossed and (int(scores.argmax()), int(others.argmax())) == (left, right):
        # A token fell on the other side of a top-p or top-k cut-off, and does so again: the distance to the
        # cut-off changed its sign between the widths, so it is smaller than their difference.
        return Evidence(width, True)
    highest = scores.topk(2).values.tolist()
    known = scores.isfinite() & others.isfinite()
    noise = float((scores - others)[known].abs().max())
    margin = abs(float(scores[left] - scores[right]))
    return Evidence(width, margin <= 2 * noise, highest[0] - highest[1], margin, noise)


def _session(engine: Engine, request: Request) -> KVSession:
    room = len(request.prompt_ids) + request.max_new_tokens
    return engine.session(room + LONGEST_DRAFT)  # what was refused is read again too


def by_single_steps(engine: Engine, request: Request, text: Sequence[int]) -> torch.Tensor:
    """Logits behind `text`, as the control computes them."""
    session = _session(engine, request)
    logits = session.prefill(request.prompt_ids)
    for token in text:
        logits = session.extend([token])
    return logits[-1]


def by_rounds(
    engine: Engine, request: Request, text: Sequence[int], passes: Sequence[Pass]
) -> tuple[torch.Tensor, int]:
    """Logits of a position by the passes that the method made, and the width of the deciding one.

    What was drafted and refused is not stored; other tokens stand in for it, for no row depends on what
    follows it. A method that drafts nothing says nothing of its passes: then the whole text is read in one.
    """
    session, position = _session(engine, request), len(text)
    if all(drafted is None for drafted, _ in passes):
        whole = [*request.prompt_ids, *text]
        return session.prefill(whole)[-1], len(whole)
    logits = session.prefill(request.prompt_ids)
    committed = list(passes[0][1])
    if position == 0:
        return logits[-1], len(request.prompt_ids)
    if len(committed) > 1:
        logits = session.extend(committed[:-1])
        if position < len(committed):
            return logits[position - 1], len(committed) - 1
    for drafted, tokens in passes[1:]:
        width = max(1 + (drafted or 0), len(tokens))
        block = [committed[-1], *tokens, *[tokens[-1]] * width][:width]
        logits = session.extend(block)
        row = position - len(committed)
        if row < len(tokens):
            return logits[row], width
        committed.extend(tokens)
        session.truncate(len(request.prompt_ids) + len(committed) - 1)
    raise AssertionError("a position behind the end of both texts")
