"""Passes captured as CUDA graphs: one launch a pass instead of hundreds.

No GPU was at hand: this follows torch's documented interface (`torch.compile` with `mode="reduce-overhead"`),
and its tests run on the CPU, where torch compiles the same code and leaves the capturing out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from specbench.models.context import context_length

if TYPE_CHECKING:
    from specbench.engine.compiled.step import Step

FEWEST_TOKENS = 512
WIDTHS = tuple(1 << power for power in range(9))
SHAPES = 128  # widths times cache sizes that may be compiled; torch's own limit is 8


class CapturedStep:
    """A pass over `WIDTHS` and caches of a few fixed sizes; what is over is padding.

    Args:
        step: with attention and products of torch's own, which read a whole cache and mask what is not filled.
    """

    def __init__(self, step: Step) -> None:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
        self._compiled = torch.compile(step, mode="reduce-overhead", fullgraph=True, dynamic=False)
        self.positions = context_length(step.model.config) or sys.maxsize

    @staticmethod
    def room(capacity: int, widest: int) -> int:
        """Size of a cache for `capacity` tokens: a power of two, padding of the widest pass included."""
        return max(FEWEST_TOKENS, _power_of_two(capacity + widest))

    def __call__(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """What `Step.forward` returns; `inputs` are its arguments, flattened, `start` on the CPU.

        Args:
            inputs: `rows` are the last token alone, or all of them.
        """
        token_ids, start, rows, *slot = inputs
        width, begin, only_last = token_ids.shape[1], 0, rows.shape[0] == 1
        # The widest pass gives the logits of one row: those of a long prompt are many, and nobody wants them.
        widest = WIDTHS[-1] if only_last else WIDTHS[-2]
        room = min(self.positions, slot[0].shape[2]) - int(start)
        found: list[list[torch.Tensor]] = []
        for count, padded in _passes(width, room, widest):
            part = token_ids[:, begin : begin + count]
            logits, choices = self._pass(part, int(start) + begin, padded, slot)
            # The next pass writes its results where these are.
            kept = slice(-1, None) if only_last else slice(None)
            found.append([logits[:count][kept].clone(), choices[:, :count][:, kept].clone()])
            begin += count
        if only_last:
            return found[-1]
        return [torch.cat([part[0] for part in found]), torch.cat([part[1] for part in found], dim=1)]

    def draft(self, inputs: list[torch.Tensor], count: int) -> list[int]:
        """`count` most likely ids, each behind the one before; `inputs` ask for the last row alone.

        It ends before a token whose logit is not finite, so that fewer come.
        """
        token_ids, start, rows, *slot = inputs
        drafted: list[torch.Tensor] = []
        while len(drafted) < count:
            logits, choices = self([token_ids, start, rows, *slot])
            start, token_ids = start + token_ids.shape[1], choices
            finite = logits.gather(1, choices).isfinite()
            drafted.append(torch.where(finite, choices, -1))
        ids = torch.cat(drafted, dim=1)[0].tolist()  # the device is waited for once a draft
        return ids[: ids.index(-1)] if -1 in ids else ids

    def _pass(
        self, token_ids: torch.Tensor, start: int, padded: int, slot: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Padding stands behind all other tokens, so that no row sees it and the next pass overwrites it."""
        width, layers, device = token_ids.shape[1], len(slot) // 2, token_ids.device
        own_ids = token_ids.new_zeros(1, padded)  # of its own: other strides would be compiled anew
        own_ids[:, :width] = token_ids
        # Filled on the device: a copy from here would wait for all that it has to do.
        place = torch.full((), start, device=device)
        last = torch.full((1,), width - 1, device=device)
        rows = last if padded == WIDTHS[-1] else torch.arange(padded, device=device)
        torch.compiler.cudagraph_mark_step_begin()
        return self._compiled(own_ids, place, rows, slot[:layers], slot[layers:])


def _passes(width: int, room: int, widest: int) -> Iterator[tuple[int, int]]:
    """Tokens of each pass over `width` tokens, and what they are padded to; near the end nothing is padded."""
    while width:
        padded = min(_power_of_two(width), widest)
        if padded > room:
            padded = min(1 << (width.bit_length() - 1), widest)
        count = min(width, padded)
        yield count, padded
        width, room = width - count, room - count


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
