"""GGUF files of real Llamas, as llama.cpp's converter writes them."""

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from specbench.testing import CHAT_TEMPLATE, VOCABULARY_SIZE, tiny_llama, tiny_tokenizer

ROWS = VOCABULARY_SIZE + 4
"""The tiny tokenizer's tokens, one that two of them merge into, and three that fill up."""


def tiny_gguf(path, seed, kind="F32", split=0, **config):
    """A random Llama as a GGUF file; the same one lies in Hugging Face format in `path` without its suffix."""
    folder = tiny_llama(path.with_suffix(""), seed, vocab_size=ROWS, **config)
    return gguf_of(folder, path, kind, split)


def gguf_of(folder, path, kind="F32", split=0, tokens=True):
    """The Llama of a folder as a GGUF file, with the tiny tokenizer; the path of its first file.

    Args:
        split: tensors of a file, where there are to be several.
        tokens: whether it has a tokenizer; else only ids go in and out.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    files = write_llama(model, path, kind, split, _add_tokens if tokens else None)
    return path.with_name(f"{path.stem}-00001-of-{files:05}.gguf") if split else path


def write_llama(model, path, kind="F32", split=0, add_tokens=None):
    """Write a Llama, its matrices as `kind`; returns how many files that takes.

    Args:
        add_tokens: writes a vocabulary of so many ids.
    """
    config = model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if add_tokens:
        add_tokens(writer, config.vocab_size)
    else:
        writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.named_parameters():  # tied ones once, as llama.cpp wants them
        values = tensor.detach().float().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = _interleaved(values, heads if "q_proj" in name else key_heads)
        stored = gguf.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
        place = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(place, gguf.quants.quantize(values, stored), raw_dtype=stored)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return len(writer.tensors)


def tiny_mamba_gguf(path):
    """A random Mamba of one layer, whose state cannot go back."""
    width, inner, state, rank, kernel = 32, 64, 16, 2, 4
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(1)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_tokens(writer, ROWS)
    shapes = {
        "token_embd.weight": (ROWS, width), "output_norm.weight": (width,), "blk.0.attn_norm.weight": (width,),
        "blk.0.ssm_in.weight": (2 * inner, width), "blk.0.ssm_conv1d.weight": (inner, kernel),
        "blk.0.ssm_conv1d.bias": (inner,), "blk.0.ssm_x.weight": (rank + 2 * state, inner),
        "blk.0.ssm_dt.weight": (inner, rank), "blk.0.ssm_dt.bias": (inner,), "blk.0.ssm_a": (inner, state),
        "blk.0.ssm_d": (inner,), "blk.0.ssm_out.weight": (width, inner),
    }  # fmt: skip
    numbers = np.random.default_rng(3)
    for name, shape in shapes.items():
        values = 0.3 * numbers.standard_normal(shape, np.float32)
        writer.add_tensor(name, -np.abs(values) if name.endswith("ssm_a") else values)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


def _interleaved(weights, heads):
    """llama.cpp rotates neighbouring numbers of a head, transformers those half a head apart."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))


def _add_tokens(writer, rows):
    known = tiny_tokenizer().get_vocab()
    spelling = bytes_to_unicode()
    tokens = sorted(known, key=known.get)
    special = [token for token in tokens if token.startswith("<") and len(token) > 1]
    spelled = [
        token if token in special else "".join(spelling[byte] for byte in token.encode()) for token in tokens
    ]
    spelled.append("ab")
    types = [3 if token in special else 1 for token in spelled] + [5] * (rows - len(spelled))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*spelled, *(f"[PAD{index}]" for index in range(len(spelled), rows))])
    writer.add_token_types(types)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(known["<|end|>"])
    writer.add_chat_template(CHAT_TEMPLATE)
