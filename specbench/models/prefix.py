"""The first layers of a loaded model as a model of their own, over the same weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.errors import ModelError
from specbench.models import cutting
from specbench.models.architecture import meta_model

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel


def first_layers(loaded: LoadedModel, layers: int) -> LoadedModel:
    """The model's first layers with its embeddings and head; every weight is the model's own tensor.

    Raises:
        SpecbenchError: its architecture cannot be cut, or its weights are not all in memory.
    """
    whole = loaded.model
    config = deepcopy(whole.config)
    cutting.cut(config, layers, loaded.folder)
    model = meta_model(config, str(loaded.dtype).removeprefix("torch."))
    shared = whole.state_dict(keep_vars=True)
    missing, _ = model.load_state_dict(shared, strict=False, assign=True)
    buffers = dict(whole.named_buffers())
    for name, _ in list(model.named_buffers()):
        if name in buffers:
            owner, _, own = name.rpartition(".")
            model.get_submodule(owner).register_buffer(own, buffers[name], persistent=False)
    model.tie_weights()
    tensors = [*model.parameters(), *model.buffers()]
    if missing or any(tensor.is_meta for tensor in tensors):
        raise ModelError(
            f"the first {layers} layers of {loaded.folder} cannot share its weights: "
            f"{missing[0] if missing else 'some are not in memory'}",
            "leave out cloud.device_map, or draft with a model of its own",
        )
    return replace(loaded, model=model.eval().requires_grad_(False))
