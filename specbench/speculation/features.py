"""Hidden states of the target that a draft reads: which, and as what bytes they cross the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

FeatureDtype = Literal["float32", "bfloat16", "int8"]
DTYPES: tuple[FeatureDtype, ...] = get_args(FeatureDtype)
MOST_LAYERS = 8
INT8_MAX = 127
SCALE_BYTES = 4


@dataclass(frozen=True)
class Features:
    """Hidden states of the target, one of each layer for every token that it judged.

    Args:
        layers: 0 is the embedding, 1 the first layer's output, and so on; at most `MOST_LAYERS`.
        size: numbers in one hidden state, which is the target's hidden size.
        dtype: on the wire. `int8` has a float32 scale for each hidden state.
    """

    layers: tuple[int, ...]
    size: int
    dtype: FeatureDtype = "float32"

    @property
    def token_bytes(self) -> int:
        """Bytes that cross the wire for each token."""
        bytes_each = {
            "float32": 4 * self.size,
            "bfloat16": 2 * self.size,
            "int8": self.size + SCALE_BYTES,
        }
        return len(self.layers) * bytes_each[self.dtype]

    def packed(self, states: torch.Tensor) -> bytes:
        """What crosses the wire: all numbers, little-endian, and behind them the scales of `int8`.

        Args:
            states: shape (tokens, layers, size), in any dtype.
        """
        import torch

        states = states.detach().cpu().float()
        if self.dtype == "float32":
            return states.numpy().astype("<f4").tobytes()
        if self.dtype == "bfloat16":
            return states.to(torch.bfloat16).view(torch.int16).numpy().astype("<i2").tobytes()
        codes, scales = _quantised(states)
        return codes.numpy().tobytes() + scales.numpy().astype("<f4").tobytes()

    def unpacked(self, data: bytes) -> torch.Tensor:
        """The hidden states that `packed` wrote: float32, of shape (tokens, layers, size).

        Raises:
            ValueError: they are no whole tokens.
        """
        import numpy as np
        import torch

        count, rest = divmod(len(data), self.token_bytes)
        if rest:
            raise ValueError(f"{len(data)} bytes are no hidden states of {self.token_bytes} bytes a token")
        shape = count, len(self.layers), self.size
        if self.dtype == "float32":
            return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32)).view(shape)
        if self.dtype == "bfloat16":
            bits = torch.from_numpy(np.frombuffer(data, "<i2").astype(np.int16))
            return bits.view(torch.bfloat16).float().view(shape)
        end = count * len(self.layers) * self.size
        codes = torch.from_numpy(np.frombuffer(data, np.int8, end).astype(np.float32)).view(shape)
        scales = torch.from_numpy(np.frombuffer(data, "<f4", offset=end).astype(np.float32))
        return codes * scales.view(count, len(self.layers), 1)

    def rounded(self, states: torch.Tensor) -> torch.Tensor:
        """What is left of them behind the wire, so that a draft reads the same numbers without one."""
        import torch

        states = states.float()
        if self.dtype == "float32":
            return states
        if self.dtype == "bfloat16":
            return states.to(torch.bfloat16).float()
        codes, scales = _quantised(states)
        return codes.float() * scales


def _quantised(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of eight bits, and what each hidden state's are multiplied by, shape (tokens, layers, 1)."""
    import torch

    scales = states.abs().amax(-1, keepdim=True) / INT8_MAX
    codes = (states / scales.clamp_min(torch.finfo(torch.float32).tiny)).round()
    return codes.clamp(-INT8_MAX, INT8_MAX).to(torch.int8), scales
