"""The draft before training: some of the target's layers and some of its tokens."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specbench.errors import ModelError, SpecbenchError
from specbench.models import loading
from specbench.models.library import quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LAYER = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")


@dataclass(frozen=True)
class Student:
    """A draft and what its ids mean: draft id `i` is the target's `target_ids[i]`, ascending and distinct.

    `unknown_id` stands for every target token that the draft does not know.
    """

    model: PreTrainedModel
    target_ids: np.ndarray
    unknown_id: int
    target_size: int

    @property
    def to_draft(self) -> np.ndarray:
        """Draft id of every target id, -1 where there is none: [target_size]."""
        table = np.full(self.target_size, -1, np.int64)
        table[self.target_ids] = np.arange(len(self.target_ids))
        return table

    def save(self, folder: Path) -> None:
        """Write model and ids, whole or not at all."""
        partial = folder.with_suffix(".tmp")
        shutil.rmtree(partial, ignore_errors=True)
        with quiet_transformers():
            self.model.save_pretrained(partial)
        ids = {
            "target_ids": self.target_ids.tolist(),
            "unknown_id": self.unknown_id,
            "target_size": self.target_size,
        }
        (partial / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
        os.replace(partial, folder)

    @classmethod
    def load(cls, folder: Path) -> Student:
        """Read what `save` wrote, in float32."""
        import torch
        from transformers import AutoModelForCausalLM

        loading.make_known(folder)
        ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model, np.array(ids["target_ids"]), ids["unknown_id"], ids["target_size"])


def embedding_rows(model: PreTrainedModel) -> int:
    """Ids that the model has an embedding for, padding included."""
    weight: Any = model.get_input_embeddings().weight
    return weight.shape[0]


def build(target: PreTrainedModel, layers: tuple[int, ...], target_ids: np.ndarray, unknown: int) -> Student:
    """A draft with the target's own weights: the chosen layers, and the rows of the chosen tokens.

    Args:
        unknown: the target's token (one of `target_ids`) whose row serves for all others.

    Raises:
        SpecbenchError: an architecture that does not keep its layers and logits as Llama does.
    """
    import torch
    from transformers import AutoModelForCausalLM

    size = embedding_rows(target)
    unknown_id = int(np.searchsorted(target_ids, unknown))
    config = draft_config(target.config.get_text_config(), layers, target_ids, unknown_id)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tables = {id(target.get_input_embeddings().weight), id(target.get_output_embeddings().weight)}
    rows = torch.from_numpy(target_ids)
    state = {}
    for name, tensor in target.named_parameters(remove_duplicate=False):
        if id(tensor) in tables:
            state[name] = tensor.detach().cpu()[rows].float()
        elif found := LAYER.match(name):
            if int(found[2]) in layers:
                state[f"{found[1]}{layers.index(int(found[2]))}{found[3]}"] = tensor.detach().cpu().float()
        else:
            state[name] = tensor.detach().cpu().float()
    try:
        model.load_state_dict(state, strict=False)
        demand_plain_logits(model)
    except (RuntimeError, AttributeError) as error:
        raise unfit(target) from error
    if set(state) != {name for name, _ in model.named_parameters(remove_duplicate=False)}:
        raise unfit(target)
    return Student(model, target_ids, unknown_id, size)


def draft_config(
    target: PretrainedConfig, layers: tuple[int, ...], target_ids: np.ndarray, unknown_id: int
) -> PretrainedConfig:
    """The target's configuration, with fewer layers and tokens and the draft's ids."""
    config = copy.deepcopy(target)
    count = config.num_hidden_layers
    for name, value in config.to_dict().items():  # what is given layer by layer, such as layer_types
        if isinstance(value, list) and len(value) == count and "layer" in name:
            setattr(config, name, [value[layer] for layer in layers])
    config.num_hidden_layers, config.vocab_size = len(layers), len(target_ids)
    draft_id = {int(token): index for index, token in enumerate(target_ids)}
    for name, value in config.to_dict().items():
        if not name.endswith("_token_id") or value is None:
            continue
        if isinstance(value, list):
            setattr(config, name, [draft_id[token] for token in value if token in draft_id] or None)
        else:
            setattr(config, name, draft_id.get(value, unknown_id))
    return config


def demand_plain_logits(model: PreTrainedModel) -> None:
    """Raise a RuntimeError unless logits are the last hidden state times the head."""
    import torch

    ids = torch.arange(min(8, model.config.vocab_size))[None]
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        logits = model(input_ids=ids, use_cache=False).logits
        plain = hidden @ model.get_output_embeddings().weight.t()
    if not torch.allclose(plain, logits, rtol=1e-3, atol=1e-3):
        raise RuntimeError("logits are not hidden states times the head")


def unfit(target: PreTrainedModel) -> SpecbenchError:
    """The error about a target from which no draft can be made."""
    return ModelError(
        f"a draft cannot be cut from {type(target).__name__}: its layers, embeddings or logits are not Llama's",
        "distil from a target of a Llama-like architecture",
    )
