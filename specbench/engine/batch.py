"""Passes that several texts share: what each of them asks for, what it gets, and whom a failure harms."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

from specbench.clock import now_ms
from specbench.engine.base import BY_LENGTH, TOLERANCE
from specbench.engine.session import Block, Passed
from specbench.errors import first_line
from specbench.models.context import reads_by_length

if TYPE_CHECKING:
    from specbench.engine.base import Engine

PROBED = ((2, 1), (5, 3), (3, 2))
"""Tokens of a sequence's prompt, and of its part of a shared pass, when sharing is tried."""


Item = TypeVar("Item")
Steps = Generator[Block | Item, Passed | None, None]
"""What is computed step by step: a `Block` wants to be answered with its `Passed`, all else is a result."""
Results = Generator[Item, object, None]
"""The same without blocks: it asks for nothing, so it goes wherever `Steps` do."""


def alone(steps: Steps[Item]) -> Results[Item]:
    """The results, every block read in a pass of its own, where and when the next result is asked for."""
    answer: Passed | None = None
    try:
        while True:
            try:
                item = steps.send(answer)
            except StopIteration:
                return
            if isinstance(item, Block):
                answer = item.passed()
            else:
                answer = None
                yield item
    finally:
        steps.close()


def together(engine: Engine, blocks: Sequence[Block]) -> list[Passed | Exception]:
    """Read blocks of different sessions in one pass; where that fails, each alone, so that one harms no other.

    Returns:
        For each block what it got, or what went wrong with it.
    """
    found: dict[int, Passed | Exception] = {}
    for index, block in enumerate(blocks):
        try:
            block.session.demand_room(len(block.token_ids))
        except Exception as error:
            found[index] = error
    able = [index for index in range(len(blocks)) if index not in found]
    try:
        started = now_ms()
        logits = engine.extend_together([blocks[index] for index in able])
        pass_ms = now_ms() - started
        found |= {index: Passed(rows, pass_ms, len(able)) for index, rows in zip(able, logits, strict=True)}
    except Exception:
        traceback.print_exc(file=sys.stderr)
        for index in able:
            try:
                found[index] = blocks[index].passed()
            except Exception as error:
                found[index] = error
    return [found[index] for index in range(len(blocks))]


def obstacle(engine: Engine) -> str | None:
    """Why sequences cannot share this engine's passes, in one line; tried with three of different lengths."""
    if reads_by_length(engine.loaded.model.config):
        return BY_LENGTH
    try:
        blocks, expected = [], []
        for prompt, width in PROBED:
            tokens = engine.to_target_ids([token % engine.known_tokens for token in range(prompt + width)])
            shared, single = engine.session(), engine.session()
            shared.prefill(tokens[:prompt])
            single.prefill(tokens[:prompt])
            blocks.append(Block(shared, tokens[prompt:]))
            expected.append(single.extend(tokens[prompt:]).double())
        for block, found, wanted in zip(blocks, engine.extend_together(blocks), expected, strict=True):
            error = (found.double() - wanted).abs().max() / wanted.abs().max()
            if not error <= TOLERANCE or block.session.cached_length != block.session.length:
                return f"logits differ by {error:.1%} from those of passes of their own"
    except Exception as error:  # transformers and models raise whatever they like
        return first_line(error)
    return None
