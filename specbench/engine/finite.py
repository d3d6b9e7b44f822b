"""Refuses logits that are not numbers: no token, and no speed, can be read from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    import torch


class NotFiniteError(SpecbenchError):
    """A model's logits are NaN or infinite.

    Args:
        role: whose model it is, such as `cloud`; unknown when empty.
        found: what stands for the highest logit: `nan`, `inf` or `-inf`.
    """

    def __init__(self, role: str, found: str = "nan") -> None:
        super().__init__(
            f"the {role} model's logits are not finite ({found})".replace("the  model", "the model"),
            "its weights are damaged, or overflow in this dtype; 'specbench check-dtype --load' looks at both",
            ExitCode.MODEL,
        )


def demand_finite(logits: torch.Tensor, role: str) -> None:
    """Refuse rows in which any logit is NaN or plus infinity, or all are minus infinity.

    The highest logit of a row shows all three: the maximum passes NaN on. Minus infinity elsewhere is a token
    that cannot be said, such as a padding id.

    Args:
        logits: shape (..., vocabulary); only rows from which a token is chosen.

    Raises:
        NotFiniteError: naming the role.
    """
    highest = logits.amax(-1)
    if not bool(highest.isfinite().all()):
        bad = highest[~highest.isfinite()]
        raise NotFiniteError(role, str(float(bad.flatten()[0])))


@contextmanager
def demanding_finite(model: torch.nn.Module, role: str) -> Iterator[None]:
    """Hold every pass of a model to `demand_finite`, for decode loops that are not ours."""

    def look(module: torch.nn.Module, inputs: tuple, output: Any) -> None:
        demand_finite(output.logits, role)

    hook = model.register_forward_hook(look)
    try:
        yield
    finally:
        hook.remove()
