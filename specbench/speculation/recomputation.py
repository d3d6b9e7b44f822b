"""Whether a text of the control is what the model says without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbench.profile import Speculative
from specbench.speculation.request import Request
from specbench.speculation.ties import by_steps, compared

if TYPE_CHECKING:
    import torch

    from specbench.engine.base import Engine
    from specbench.profile import Options

MOST_POSITIONS = 64
MOST_STEPS = 16


@dataclass(frozen=True)
class Recomputed:
    """A text beside a pass without a cache.

    Args:
        positions: how many tokens were compared, all at the text's end.
        position: of the first one that rounding does not explain; the fields behind it are about that.
        tokens: the id that the pass says, then the control's.
        margin: how far the pass has them apart; `None` where it cuts the control's token off.
        plausible: how far rounding alone moves a score there.
    """

    positions: int
    position: int | None = None
    tokens: tuple[int, int] | None = None
    margin: float | None = None
    plausible: float | None = None


def recomputed(engine: Engine, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
    """Hold the last tokens of a control's text against one pass over all of it.

    Tokens that are drawn are the highest of no score: there the engine repeats its first steps, and their
    highest logits are held against the pass's.
    """
    if options.decoding.temperature > 0 and options.speculative.verification != "coupled":
        text = text[:MOST_STEPS]
        options = _greedy(options)
        steps = by_steps(engine, request, text)
        said = [int(_scores(row, options, request, text, at).argmax()) for at, row in enumerate(steps)]
    else:
        said = list(text)
    count = min(len(text), MOST_POSITIONS)
    read = [*request.prompt_ids, *text[:-1]]
    rows = engine.recompute(read, count, request.media)
    for row, at in enumerate(range(len(text) - count, len(text))):
        scores = _scores(rows[row], options, request, text, at)
        highest = int(scores.argmax())
        if highest == said[at]:
            continue
        found = _explained(engine, options, request, text[:at], scores, (highest, said[at]))
        if found is not None:
            return replace(found, positions=count, position=at)
    return Recomputed(count)


def _explained(
    engine: Engine,
    options: Options,
    request: Request,
    before: Sequence[int],
    scores: torch.Tensor,
    tokens: tuple[int, int],
) -> Recomputed | None:
    """`None` where rounding may make the second token the highest in place of the first."""
    from specbench.speculation.rounding import disturbed

    highest, other = tokens
    plausible, is_cut = 0.0, not bool(scores[other].isfinite())
    for rows in disturbed(engine, [*request.prompt_ids, *before], 1, request.media):
        moved = _scores(rows[-1], options, request, before, len(before))
        known = moved.isfinite() & scores.isfinite()
        plausible = max(plausible, float((moved - scores)[known].abs().max()))
        is_cut = is_cut and not bool(moved[other].isfinite())
    margin = float(scores[highest] - scores[other])
    if not is_cut and (margin == float("inf") or margin <= 2 * plausible):
        return None
    return Recomputed(0, None, tokens, None if margin == float("inf") else margin, plausible)


def _scores(
    row: torch.Tensor, options: Options, request: Request, text: Sequence[int], at: int
) -> torch.Tensor:
    return compared(row, [*request.prompt_ids, *text[:at]], options, request).double()


def _greedy(options: Options) -> Options:
    """The same logits, and the highest of them in place of a draw."""
    plain = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    return replace(options, decoding=options.decoding.model_copy(update=plain), speculative=Speculative())
