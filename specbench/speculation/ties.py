"""Whether two tokens were nearly tied: a position computed as single steps do, and as a method's passes did.

A pass over several tokens sums in another order than single steps do, so scores differ in their last bits, and
two tokens that are nearly tied may change places. Both computations are repeated, where the model is, through
the engine's own sessions. A tie must be no wider than their difference allows, and their difference no larger
than rounding explains: passes that differ by more are not two ways to the same scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbench.profile.decoding import LONGEST_DRAFT
from specbench.speculation.request import Request

if TYPE_CHECKING:
    import torch

    from specbench.engine.base import Engine
    from specbench.engine.session import KVSession
    from specbench.profile import Options


Pass = tuple[int | None, tuple[int, ...], bool]
"""What a round drafted, if it drafts at all, what it committed, and whether the draft was a tree.

Where the first one drafted, prompt and draft were read in one pass, as transformers' assisted generation does.
"""


@dataclass(frozen=True)
class Evidence:
    """What was seen at a position; fields as of `Divergence`.

    Args:
        is_tie: the margin is within the noise, or a token crossed a cut-off between the two computations, and
            rounding explains the noise; `None` where they cannot be repeated.
    """

    width: int
    is_tie: bool | None
    top2_margin: float | None = None
    margin: float | None = None
    noise: float | None = None
    plausible: float | None = None


def compared(row: torch.Tensor, context: Sequence[int], options: Options, request: Request) -> torch.Tensor:
    """The scores whose maximum is the token that the target says; minus infinity where it is cut off.

    Args:
        row: logits of one position, shape (vocabulary,).
        context: all ids before it; their number is the absolute position.
        request: that is answered.
    """
    from specbench.speculation.sampling import Scorer

    scorer = Scorer.of(options, request)
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
    from specbench.speculation.rounding import largest_move

    left, right = pair
    context = [*request.prompt_ids, *text]

    def scored(row: torch.Tensor) -> torch.Tensor:
        return compared(row, context, options, request).double()

    scores = scored(by_single_steps(engine, request, text))
    top2_margin = float(scores.topk(2).values.diff().abs())
    margin = abs(float(scores[left] - scores[right]))
    found: list[Evidence] = []
    for row, width in _ways(engine, request, text, passes):
        others = scored(row)
        known = scores.isfinite() & others.isfinite()
        noise = float((scores - others)[known].abs().max())
        crossed = bool((scores[[left, right]].isfinite() != others[[left, right]].isfinite()).any())
        if crossed and (int(scores.argmax()), int(others.argmax())) == (left, right):
            # A token fell on the other side of a top-p or top-k cut-off, and does so again: the distance to the
            # cut-off changed its sign between the widths, so it is smaller than their difference.
            found.append(Evidence(width, True, top2_margin, None, noise))
        else:
            found.append(Evidence(width, margin <= 2 * noise, top2_margin, margin, noise))
    best = next((one for one in found if one.is_tie), found[0])
    if not best.is_tie:
        return best
    assert best.noise is not None
    exact = scored(engine.recompute(context, 1, request.media)[-1])
    plausible = largest_move(engine, context, exact, scored, request.media)
    return replace(best, is_tie=best.noise <= plausible, plausible=plausible)


def _session(engine: Engine, request: Request) -> KVSession:
    room = len(request.prompt_ids) + request.max_new_tokens
    session = engine.session(room + LONGEST_DRAFT)  # what was refused is read again too
    if request.media:
        session.show(request.media)
    return session


def by_steps(engine: Engine, request: Request, text: Sequence[int]) -> Iterator[torch.Tensor]:
    """Logits before each token of `text`, as the control computes them, shape (vocabulary,)."""
    session = _session(engine, request)
    logits = session.prefill(request.prompt_ids)
    for token in text[:-1]:
        yield logits[-1]
        logits = session.extend([token])
    yield logits[-1]


def by_single_steps(engine: Engine, request: Request, text: Sequence[int]) -> torch.Tensor:
    """Logits behind `text`, as the control computes them."""
    *_, last = by_steps(engine, request, [*text, 0])  # no token stands there yet
    return last


def _ways(
    engine: Engine, request: Request, text: Sequence[int], passes: Sequence[Pass]
) -> Iterator[tuple[torch.Tensor, int]]:
    """Logits behind `text` and the width of their pass, by each way in which a method may have computed them.

    A method that drafts nothing does not say how: by passes as wide as the text, or by transformers' own
    single steps, as `model.generate` does beside an engine that is another.
    """
    yield by_rounds(engine, request, text, passes)
    if engine.kind != "eager" and all(drafted is None for drafted, _, _ in passes):
        from specbench.engine.eager import EagerEngine

        eager = EagerEngine(engine.loaded, engine.vocabulary_size, engine.draft_vocabulary)
        yield by_single_steps(eager, request, text), 1


def by_rounds(
    engine: Engine, request: Request, text: Sequence[int], passes: Sequence[Pass]
) -> tuple[torch.Tensor, int]:
    """Logits of a position by the passes that the method made, and the width of the deciding one.

    What was drafted and refused is not stored; other tokens stand in for it, for no row depends on what
    follows it, or on other branches of a tree. A method that drafts nothing says nothing of its passes: then
    the whole text is read in one.
    """
    from specbench.engine.eager_session import EagerSession

    session, position = _session(engine, request), len(text)
    if all(drafted is None for drafted, _, _ in passes):
        whole = [*request.prompt_ids, *text]
        return session.prefill(whole)[-1], len(whole)
    drafted, first, _ = passes[0]
    committed = list(first)
    if drafted is not None:
        whole = [*request.prompt_ids, *_filled(committed, drafted)]
        # transformers asks for these rows alone, and how many rows a product has may change their last bits.
        logits = (
            session.prefill(whole, 1 + drafted) if isinstance(session, EagerSession) else session.extend(whole)
        )
        logits = logits[-1 - drafted :]
        if position < len(committed):
            return logits[position], len(request.prompt_ids) + drafted
        session.truncate(len(request.prompt_ids) + len(committed) - 1)
    else:
        logits = session.prefill(request.prompt_ids)
        if position == 0:
            return logits[-1], len(request.prompt_ids)
        if len(committed) > 1:
            logits = session.extend(committed[:-1])
            if position < len(committed):
                return logits[position - 1], len(committed) - 1
    for drafted, tokens, is_tree in passes[1:]:
        width = max(1 + (drafted or 0), len(tokens))
        block = [committed[-1], *_filled(tokens, width - 1)]
        branches = [0] * (width - len(tokens))
        logits = session.extend(block, [*range(-1, len(tokens) - 1), *branches] if is_tree else None)
        row = position - len(committed)
        if row < len(tokens):
            return logits[row], width
        committed.extend(tokens)
        if is_tree:
            session.keep(range(len(tokens)))
        session.truncate(len(request.prompt_ids) + len(committed) - 1)
    raise AssertionError("a position behind the end of both texts")


def _filled(tokens: Sequence[int], count: int) -> list[int]:
    """The first `count` tokens, the last one repeated where there are fewer."""
    return [*tokens, *[tokens[-1]] * count][:count]
