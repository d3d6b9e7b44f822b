"""The first layers of a model alone: the same numbers as the whole model's first layers, or a sentence."""

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from specbench.api import CloudModel, EdgeModel
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import CloudSpec, EdgeSpec
from specbench.testing import tiny_tokenizer

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 1,
    "pad_token_id": None,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2}
SHARED = {
    "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2, "sliding_window": 8,
    "head_dim": 8, "global_head_dim": 8,
}  # fmt: skip
CUT = {
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 16},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 2, "use_mamba_kernels": False, "mamba_d_state": 8,
    },
    "bamba": {"attn_layer_indices": [1, 3], **MAMBA},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 32, "num_key_value_heads": 1},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]], "num_heads": 4},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "layer_types": ["full_attention"] * 4},
    # With shared layers and no inputs for each layer, transformers 5.24 has no forward pass.
    "gemma4_text": {**SHARED, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0},
}  # fmt: skip


def written(folder, kind, fields):
    known = CONFIG_MAPPING[kind]().to_dict()
    names = {**{name: value for name, value in SMALL.items() if name in known}, **fields}
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**names)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.arange(10, 22)[None], use_cache=False).logits


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_model_computes_what_the_first_layers_compute(tmp_path, kind):
    folder = written(tmp_path, kind, CUT[kind])
    short = EdgeModel(EdgeSpec(model=folder, layers=2)).engine.loaded.model
    whole = CloudModel(CloudSpec(model=folder, device="cpu")).engine.loaded.model
    place = next(
        name for name, part in whole.named_modules() if isinstance(part, nn.ModuleList) and len(part) == 4
    )
    owner, _, name = place.rpartition(".")
    setattr(whole.get_submodule(owner), name, whole.get_submodule(place)[:2])
    whole.config.num_hidden_layers = 2
    torch.testing.assert_close(logits(short), logits(whole))


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (
            "gemma4_text",
            {**SHARED, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96},
            "its embeddings have a part for each layer, in one tensor",
        ),
        (
            "zamba",
            {
                "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "attention_hidden_size": 64,
                "attention_head_dim": 16, "num_key_value_heads": 4, "use_mamba_kernels": False,
            },
            "transformers cannot build so few of them",
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_cut_is_refused_before_it_is_read(tmp_path, kind, fields, reason):
    folder = written(tmp_path, kind, fields)
    with pytest.raises(SpecbenchError, match=f"cannot be cut to layers: 2, for {reason}") as caught:
        _ = EdgeModel(EdgeSpec(model=folder, layers=2)).config
    assert caught.value.exit_code == ExitCode.MODEL
