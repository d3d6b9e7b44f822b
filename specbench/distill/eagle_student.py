"""A feature-fed draft before training, and what of its target it reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from specbench.distill.student import Student, demand_plain_logits, embedding_rows, unfit
from specbench.engine.hidden_states import collecting
from specbench.models.eagle import EagleForCausalLM, eagle_config
from specbench.models.library import quiet_transformers


def build_eagle(
    target: PreTrainedModel, layers: tuple[int, ...], target_ids: np.ndarray, unknown: int, seed: int = 0
) -> Student:
    """A draft with the target's embeddings, last layer and norm; `eagle_fit.fit` makes what comes before.

    Args:
        layers: as of `Settings.feature_layers`.
        unknown: the target's token (one of `target_ids`) whose row serves for all others.
        seed: of the weights that the target has none for.

    Raises:
        SpecbenchError: a target that does not keep its layers and logits as Llama does.
    """
    whole: Any = target
    try:
        demand_plain_logits(whole)
        config = eagle_config(target.config.get_text_config(), layers, len(target_ids))
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: Any = EagleForCausalLM(config).float()
        last, own = whole.model.layers[-1], model.model.layers[0]
        rows = whole.get_input_embeddings().weight.detach().cpu().float()[torch.from_numpy(target_ids)]
        with torch.no_grad():
            model.model.embed_tokens.weight.copy_(rows)
            model.model.norm.load_state_dict(whole.model.norm.state_dict())
            # Some families norm queries and keys as well, which a Llama does not.
            if own.load_state_dict(last.state_dict(), strict=False).missing_keys:
                raise unfit(target)
    except (RuntimeError, AttributeError) as error:
        raise unfit(target) from error
    unknown_id = int(np.searchsorted(target_ids, unknown))
    return Student(model, target_ids, unknown_id, embedding_rows(target))


@torch.no_grad()
def features_of(target: PreTrainedModel, token_ids: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
    """Hidden states of the target behind every token, shape (batch, tokens, layers, size).

    Args:
        token_ids: the target's ids, padded on the right, shape (batch, tokens).
    """
    with collecting(target, layers) as found:
        target.get_decoder()(input_ids=token_ids, use_cache=False)
    return found.every(layers)
