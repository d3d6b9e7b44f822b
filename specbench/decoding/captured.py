"""Passes captured as CUDA graphs: one launch a pass instead of hundreds.

No GPU was at hand: this follows torch's documented interface (`torch.compile` with `mode="reduce-overhead"`),
and its tests run on the CPU, where torch compiles the same code and leaves the capturing out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from specbench.decoding.step import Step

FEWEST_TOKENS = 512
SHAPES = 128  # widths times cache sizes that may be compiled; torch's own limit is 8


class CapturedStep:
    """A pass over widths and caches of a few fixed sizes; what is over is padding.

    Args:
        step: with attention and products of torch's own, which read a whole cache and mask what is not filled.
    """

    def __init__(self, step: Step) -> None:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
        self._compiled = torch.compile(step, mode="reduce-overhead", fullgraph=True, dynamic=False)

    @staticmethod
    def room(capacity: int, widest: int) -> int:
        """Size of a cache for `capacity` tokens: a power of two, padding of the widest pass included."""
        return max(FEWEST_TOKENS, _power_of_two(capacity + widest))

    def __call__(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """What `Step.forward` returns; `inputs` are its arguments, flattened.

        Padding tokens stand behind all others, so that no row sees them and the next pass overwrites them.
        """
        token_ids, start, rows, *slot = inputs
        width, wanted, layers = token_ids.shape[1], rows.shape[0], len(slot) // 2
        padded = _power_of_two(width)
        token_ids = torch.nn.functional.pad(token_ids, (0, padded - width))
        rows = torch.nn.functional.pad(rows, (0, (1 if wanted == 1 else padded) - wanted))
        torch.compiler.cudagraph_mark_step_begin()
        logits, choices = self._compiled(token_ids, start, rows, slot[:layers], slot[layers:])
        # The next pass writes its results where these are.
        return [logits[:wanted].clone(), choices[:, :wanted].clone()]

    def draft(self, inputs: list[torch.Tensor], count: int) -> list[int]:
        """`count` most likely ids, each behind the one before; `inputs` ask for the last row alone."""
        token_ids, start, rows, *slot = inputs
        drafted: list[torch.Tensor] = []
        while len(drafted) < count:
            _, choices = self([token_ids, start, rows, *slot])
            start, token_ids, rows = start + token_ids.shape[1], choices, torch.zeros_like(rows)
            drafted.append(choices)
        return torch.cat(drafted, dim=1)[0].tolist()  # the device is waited for once a draft


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
