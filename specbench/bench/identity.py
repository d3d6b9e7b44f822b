"""Where a lossless method departs from the control, and how near a tie the control was there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from specbench.records import Divergence, Generation


def first_divergence(control: Sequence[int], other: Sequence[int]) -> int | None:
    """The first position at which two texts differ; one may have ended there. `None` if they are equal."""
    for position, (left, right) in enumerate(zip_longest(control, other)):
        if left != right:
            return position
    return None


def divergences(
    generations: Iterable[Generation],
    control: str,
    methods: Iterable[str],
    margin_at: Callable[[Generation, int], float | None],
) -> list[Divergence]:
    """Every departure of `methods` from the control on equal prompts.

    Args:
        margin_at: the control's top-2 logit margin at a position of one of its generations.
    """
    records = list(generations)
    controls = {record.key: record for record in records if record.method == control}
    wanted = set(methods) - {control}
    found: list[Divergence] = []
    for record in records:
        reference = controls.get(record.key)
        if record.method not in wanted or reference is None:
            continue
        if record.prompt_sha256 != reference.prompt_sha256:
            continue  # an earlier turn differed, so this one asks something else
        position = first_divergence(reference.tokens, record.tokens)
        if position is not None:
            found.append(
                Divergence(
                    method=record.method,
                    prompt_id=record.prompt_id,
                    turn=record.turn,
                    repeat=record.repeat,
                    position=position,
                    tokens=(_at(reference.tokens, position), _at(record.tokens, position)),
                    top2_margin=margin_at(reference, position),
                )
            )
    return found


def _at(tokens: Sequence[int], position: int) -> int | None:
    return tokens[position] if position < len(tokens) else None
