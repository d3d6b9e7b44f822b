"""Models of many kinds: which decode alone, which speculate, and what is said of those that do neither."""

import json

import pytest
import torch
from builders import PLAIN, tiny

from specbench.api import CloudModel, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import CloudSpec

PROMPT = tuple(range(10, 30))
RECURRENT = {
    "mamba": {"state_size": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "falcon_mamba": {"state_size": 4},
    "recurrent_gemma": {
        "lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 8,
        "num_key_value_heads": 1, "head_dim": 8,
    },
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 8, "num_local_experts": 4},
    "xlstm": {"hidden_size": 128, "num_heads": 4, "num_blocks": 2},
    "rwkv": {"attention_hidden_size": 32, "context_length": 512},
}  # fmt: skip
DEEPSEEK_V4 = {
    "sliding_window": 8, "num_key_value_heads": 1, "head_dim": 16, "q_lora_rank": 16, "o_lora_rank": 8,
    "o_groups": 2, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4,
}  # fmt: skip


def cloud(folder, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", **fields))


def refused(ask):
    with pytest.raises(SpecbenchError) as caught:
        ask()
    assert caught.value.exit_code == ExitCode.MODEL
    return caught.value


@torch.inference_mode()
def recomputed(model, count):
    """A text by passes over all that stands before each token, without a cache."""
    text = list(PROMPT)
    for _ in range(count):
        logits = model.engine.loaded.model(input_ids=torch.tensor([text]), use_cache=False).logits
        text.append(int(logits[0, -1, :96].argmax()))
    return text[len(PROMPT) :]


@pytest.mark.parametrize("model_type", RECURRENT)
def test_a_recurrent_model_decodes_alone_and_its_text_is_that_of_a_loop_without_a_cache(tmp_path, model_type):
    model = cloud(tiny(tmp_path, model_type, **RECURRENT[model_type]))
    target = model.target(PLAIN)
    found = list(target.begin(Request(PROMPT, 16, frozenset())).tokens)
    target.check()
    for commit in target.decode():
        found += commit.tokens
        target.check()
    assert found == recomputed(model, 16)


def test_a_model_that_forgets_behind_its_window_is_found_out_whatever_it_says_of_itself(tmp_path):
    code = "class Own(Base):\n    _is_stateful = False\n"
    model = cloud(tiny(tmp_path, "deepseek_v4", code, **DEEPSEEK_V4), trust_remote_code=True)
    assert "cannot be rolled back" in refused(lambda: model.verifier(PLAIN)).message


def test_two_texts_at_once_on_a_model_that_keeps_one_are_an_error_and_never_a_wrong_text(tmp_path):
    engine = cloud(tiny(tmp_path, "recurrent_gemma", **RECURRENT["recurrent_gemma"])).engine
    first, second = engine.session(), engine.session()
    second.prefill(PROMPT)
    with pytest.raises(SpecbenchError, match="keeps the state of one text, and another one has begun"):
        first.prefill(PROMPT)


def test_two_texts_at_once_on_a_model_that_keeps_them_apart_do_not_disturb_each_other(tmp_path):
    engine = cloud(tiny(tmp_path, "mamba", **RECURRENT["mamba"])).engine
    alone, first, second = engine.session(), engine.session(), engine.session()
    alone.prefill(PROMPT)
    first.prefill(PROMPT)
    second.prefill(PROMPT[::-1])
    assert torch.equal(alone.extend([5]), first.extend([5]))


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("openai-gpt", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    ],
)
def test_a_model_that_takes_no_cache_is_refused_when_it_is_opened(tmp_path, model_type, fields):
    model = cloud(tiny(tmp_path, model_type, **fields))
    error = refused(model.load)
    assert "cannot be decoded token by token" in error.message
    assert "takes no cache of what it has read" in error.message


FAILS = """class Own(Base):
    def forward(self, input_ids=None, **arguments):
        if input_ids.device.type != "meta":
            raise ValueError("shape '[1, 7]' is invalid for input of size 9")
        return super().forward(input_ids=input_ids, **arguments)
"""


@pytest.mark.parametrize(
    "command", [["run", "speculative"], ["run", "cloud_baseline"], ["check-dtype", "--load"]], ids=" ".join
)
def test_a_model_whose_forward_fails_is_told_with_its_own_reason(specbench, profile, tmp_path, command):
    folder = tiny(tmp_path / "m", "llama", FAILS)
    path = profile(cloud={"model": str(folder), "trust_remote_code": True})
    done = specbench(*command, "--profile", path)
    assert done.code == ExitCode.MODEL, done.err
    assert f"a forward pass of {folder} in float32 fails: shape '[1, 7]' is invalid" in done.err
    assert "rolled back" not in done.err
    assert "leave out the method" not in done.err


@pytest.mark.parametrize("method", ["speculative", "cloud_baseline"])
def test_experts_in_float64_are_told_with_torchs_own_reason(specbench, profile, tmp_path, method):
    folder = tiny(tmp_path / "m", "mixtral", num_local_experts=4)
    settings = {"dtype": "float64"}
    path = profile(cloud={"model": str(folder), **settings}, edge=settings)
    done = specbench("run", method, "--profile", path)
    assert done.code == ExitCode.MODEL, done.err
    assert f"a forward pass of {folder} in float64 fails: " in done.err
    assert "--set edge.dtype=float32 --set cloud.dtype=float32" in done.err
    assert "rolled back" not in done.err


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "pip install optimum gptqmodel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "pip install gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "pip install bitsandbytes"),
        ({"quant_method": "compressed-tensors", "format": "dense"}, "pip install compressed-tensors"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "pip install torchao"),
        ({"quant_method": "hqq", "quant_config": {}}, "pip install hqq"),
    ],
    ids=lambda each: each.get("quant_method") if isinstance(each, dict) else None,
)
def test_a_missing_package_of_a_quantisation_is_installed_by_the_hint(tmp_path, settings, command):
    folder = tiny(tmp_path / "m", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    error = refused(cloud(folder).load)
    assert "cannot be loaded" in error.message
    assert error.hint == command


def test_a_missing_package_of_code_beside_a_model_is_in_the_hint(tmp_path):
    folder = tiny(tmp_path / "m", "llama", "import no_such_package\n\n\nclass Own(Base):\n    pass\n")
    error = refused(cloud(folder, trust_remote_code=True).load)
    assert "no_such_package" in error.message
    assert error.hint == "pip install no_such_package"
