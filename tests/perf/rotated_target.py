"""A target whose weights were never in four bits: a Llama-like model, rotated.

    python tests/perf/rotated_target.py embedded:smollm2-135m-instruct --out rotated

The default target was stored in four bits, so an int4 edge of it loses almost nothing. Here the residual
stream is turned by a random orthogonal matrix, and the weights of norms are taken into the matrices behind them
(Ashkboos et al. 2024, "QuaRot"). In exact arithmetic it computes the same function, and its weights lie on no
grid of four bits any more. Prints how far its logits are from the model's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from specbench.models.files import locate
from specbench.profile.models import CloudSpec

SEED = 0
TEXT = "A draft proposes tokens on a small device, and a large model in the cloud verifies them."


def orthogonal(size: int) -> torch.Tensor:
    """A random rotation, float64, (size, size)."""
    numbers = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    matrix, upper = torch.linalg.qr(numbers)
    return matrix * upper.diagonal().sign()


def rotate(model: LlamaForCausalLM) -> None:
    """Turn the residual stream of a model in float64, in place; the head is its own afterwards."""
    turn = orthogonal(model.config.hidden_size)

    def behind(norm: torch.nn.Module, *products: torch.nn.Linear) -> None:
        for product in products:
            product.weight.data = product.weight * norm.weight @ turn
        norm.weight.data = torch.ones_like(norm.weight)

    embedding, head, decoder = model.get_input_embeddings(), model.lm_head, model.model
    head.weight = torch.nn.Parameter(head.weight.clone())  # no longer the embedding's
    model.config.tie_word_embeddings = False
    embedding.weight.data = embedding.weight @ turn
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        behind(layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
        behind(layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
        for product in (attention.o_proj, mlp.down_proj):
            product.weight.data = turn.T @ product.weight
    behind(decoder.norm, head)


@torch.inference_mode()
def main() -> None:
    """Make it, and say how close it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    folder = locate(CloudSpec(model=asked.model), weights=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    before = model(ids).logits
    rotate(model)
    model = model.float()
    apart = (model(ids).logits - before).abs().max()
    largest = before.abs().max()
    print(f"logits of {ids.shape[1]} tokens differ by at most {apart:.1e}; the largest is {largest:.1f}")
    model.save_pretrained(asked.out)
    tokenizer.save_pretrained(asked.out)


if __name__ == "__main__":
    main()
