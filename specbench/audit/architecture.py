"""Which tensors an architecture itself makes in another dtype than the one that it is asked for."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.audit.tensors import buffers_of, dtype_of, parameters_of

if TYPE_CHECKING:
    from specbench.audit.tensors import Named
    from specbench.decoding.engine import Engine


def made_by_architecture(engine: Engine) -> dict[str, str]:
    """The dtype of every tensor of this architecture, logits and cache included, by name.

    The model's class is built anew from its configuration in the declared dtype, on the meta device: shapes and
    dtypes without numbers. Then it reads two tokens. Nothing that was done to the loaded model is in it. Where
    its pass cannot run there, logits and cache are left out; where it cannot be built, everything is. Keys and
    values are never in it: a cache holds them as the model computes, unless somebody exchanged the cache.
    """
    import torch

    from specbench.decoding.eager import EagerEngine
    from specbench.models.library import quiet_transformers

    loaded = engine.loaded
    config = copy.deepcopy(loaded.model.config)
    config._experts_implementation = "batched_mm"  # the one that runs on the meta device in every dtype
    made: Named = []
    try:  # the architecture's own code, which may raise anything
        with torch.device("meta"), quiet_transformers():
            model = type(loaded.model)._from_config(config, dtype=loaded.dtype).eval()
    except Exception:  # nothing is excused then, and the audit stays strict
        return {}
    try:
        shape = replace(loaded, model=model, device=torch.device("meta"))
        session = EagerEngine(shape, engine.vocabulary_size, engine.draft_vocabulary).session()
        made.append(("logits", session.extend([0, 0])))
        made += [pair for pair in session.tensors() if not pair[0].endswith((".keys", ".values"))]
    except Exception:  # logits and states are not excused then; parameters and buffers were made
        made.clear()
    return {name: dtype_of(tensor) for name, tensor in [*made, *parameters_of(model), *buffers_of(model)]}
