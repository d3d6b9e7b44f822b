"""Random models of some architectures, compiled and eager."""

import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    Qwen2Config,
)

from specbench.cloud import CloudModel
from specbench.profile import CloudSpec, EngineSpec
from specbench.testing import tiny_tokenizer

COMPILED = EngineSpec(kind="compiled")
INVARIANT = EngineSpec(kind="compiled", batch_invariant=True)
SMALL = {"vocab_size": 96, "eos_token_id": 1, "bos_token_id": None, "max_position_embeddings": 256}
WIDE = {
    **SMALL, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "initializer_range": 0.3,
}  # fmt: skip
ARCHITECTURES = {
    "qwen2": Qwen2Config(**WIDE, num_key_value_heads=2),
    "gemma": GemmaConfig(**WIDE, num_key_value_heads=1, head_dim=16),
    "gpt_neox": GPTNeoXConfig(**WIDE),
    "gpt2": GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
    "gptj": GPTJConfig(
        **SMALL, n_embd=32, n_layer=2, n_head=4, n_positions=256, rotary_dim=4, initializer_range=0.3
    ),
}


def cloud(folder, engine=COMPILED, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu"), engine=engine, **fields)


def random_model(folder, config):
    torch.manual_seed(5)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tokens(count, seed=0):
    return torch.randint(4, 96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
