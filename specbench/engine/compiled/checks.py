"""Whether compiled passes compute what the model's own do, and rows that do not depend on the width."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specbench.engine.base import Engine
from specbench.engine.compiled.layers import CannotCompileError, Kept
from specbench.engine.eager import EagerEngine
from specbench.engine.session import KVSession

SPARE = 65  # the longest draft that a profile allows, and one
CHECKED_TOKENS = 12
LONGEST_WINDOW = 512  # tokens
# Norms and rotary tables are computed in float32 whatever the model's dtype.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}


def demand_same_logits(
    engine: Engine, eager: EagerEngine, batch_invariant: bool, layers: Sequence[Kept]
) -> None:
    """Hold the compiled passes against the model's own: its attention may do what nobody exported.

    Args:
        layers: their windows are read to the end and beyond, where that does not take minutes.

    Raises:
        CannotCompileError: they differ by more than rounding, or rows depend on the width.
    """
    crossed = max((layer.window for layer in layers if layer.window <= LONGEST_WINDOW), default=0)
    tokens = [token % engine.known_tokens for token in range(crossed + CHECKED_TOKENS)]
    tokens = engine.to_target_ids(tokens)
    session, reference = engine.session(len(tokens)), eager.session()
    prompt, rest = tokens[:-7], tokens[-7:]
    expected = torch.cat([reference.prefill(prompt), reference.extend(rest)]).double()
    wide = torch.cat([session.prefill(prompt), session.extend(rest)])
    session.truncate(0)
    narrow = torch.cat([session.prefill(prompt), *(session.extend([token]) for token in rest)])
    finite = expected.isfinite()
    if not expected.amax(-1).isfinite().all():
        raise CannotCompileError("its own logits are not finite")
    scale = expected[finite].abs().max()
    for found in (wide, narrow):
        error = (found.double() - expected)[finite].abs().max() / scale
        if not error <= TOLERANCE.get(engine.loaded.dtype, 0.1):
            raise CannotCompileError(f"its compiled logits differ from its own by {error:.1%}")
    if batch_invariant and not (torch.equal(wide, narrow) and is_invariant(session, tokens)):
        raise CannotCompileError("its compiled rows depend on the number of rows")


def is_invariant(session: KVSession, tokens: Sequence[int]) -> bool:
    """Whether rows of the widest pass have the bits of single steps; not all, for each takes its time."""
    begin, block = session.length, (list(tokens) * SPARE)[:SPARE]
    wide = session.extend(block)
    for row in reversed(range(0, SPARE, SPARE // 4)):  # backwards, for forgetting goes that way
        session.truncate(begin + row)
        if not torch.equal(session.extend([block[row]])[0], wide[row]):
            return False
    return True
