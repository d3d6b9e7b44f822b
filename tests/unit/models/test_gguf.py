"""GGUF files are named as such, and the command that is offered converts them."""

import shlex
import shutil
import subprocess
import sys

import gguf
import pytest
import torch
from builders import PLAIN
from transformers import AutoModelForCausalLM

from specbench.api import CloudModel, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import CloudSpec
from specbench.testing import tiny_llama

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.layers": "blk",
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A tiny Llama as a GGUF file."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path / "llama", seed=3))
    config = model.config
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    tokens = ["<unk>", "<|end|>", *(chr(number) for number in range(33, 126)), "ab"]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(1)
    for name, tensor in model.state_dict().items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, tensor.to(torch.float32).numpy())
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return tmp_path / "tiny.gguf"


def refused(name):
    with pytest.raises(SpecbenchError) as caught:
        _ = CloudModel(CloudSpec(model=str(name), device="cpu")).engine
    assert caught.value.exit_code == ExitCode.MODEL
    return caught.value


def test_a_gguf_file_is_named_and_the_hint_converts_it(path):
    error = refused(path)
    assert "is in GGUF format (tiny.gguf), and specbench reads safetensors" in error.message
    command = shlex.split(error.hint.partition(": ")[2].rpartition(" (writes")[0])
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    cloud = CloudModel(CloudSpec(model=str(path.with_name("tiny-safetensors")), device="cpu"))
    assert cloud.target(PLAIN).begin(Request((5, 6, 7), 4, frozenset())).tokens


@pytest.mark.parametrize("has_config", [False, True])
def test_a_folder_of_gguf_files_is_named(path, tmp_path, has_config):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(path, folder)
    if has_config:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tmp_path / "llama" / name, folder)
    assert "is in GGUF format (tiny.gguf)" in refused(folder).message


def test_a_hub_model_that_is_gguf_by_its_name_is_told_so(monkeypatch, tmp_path):
    import huggingface_hub

    # What the hub gives of such a repository: none of the files that are asked for.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(SpecbenchError, match="by its name it holds GGUF files") as caught:
        _ = CloudModel(CloudSpec(model="someone/Tiny-GGUF", device="cpu")).config
    assert caught.value.exit_code == ExitCode.MODEL
