"""Why a model is not compiled: one reason in words, and nothing of torch's own on the terminal."""

import logging
import os

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from specbench.api import CloudModel
from specbench.engine.compiled.layers import CannotCompileError
from specbench.engine.compiled.programs import reasons
from specbench.engine.quiet import hushed
from specbench.profile import CloudSpec, EngineSpec
from specbench.testing import tiny_tokenizer

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}
REASONS = {
    "gpt_neo": (
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]},
        "transformers cannot compile a GPTNeoForCausalLM",
    ),
    "llama": (DYNAMIC, "its rotary positions change with the length of the text (dynamic NTK)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", REASONS)
def test_a_model_that_cannot_be_compiled_says_why_in_words_and_prints_no_frames(
    tmp_path, capfd, kind, logged, monkeypatch
):
    fields, reason = REASONS[kind]
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**SMALL, **fields)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    monkeypatch.setattr(logging.getLogger("specbench"), "handlers", [])  # of a command line in this process
    spec = CloudSpec(model=str(tmp_path), device="cpu")
    capfd.readouterr()
    assert CloudModel(spec, EngineSpec(kind="compiled")).engine.kind == "eager"
    assert logged.messages[-1] == f"the cloud model runs eagerly, for it cannot be compiled: {reason}"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "said",
    [
        "Expected Eq(s19, u2) but received 5",
        "Could not guard on data-dependent expression Eq(u0, 1) (unhinted: Eq(u0, 1)).",
        "index out of bounds: 0 <= tmp7 < 3L",
    ],
)
def test_the_shorthand_of_torch_is_no_reason(said):
    with pytest.raises(CannotCompileError, match="torch cannot make one program of its pass"), reasons():
        raise RuntimeError(said)


def test_stderr_is_as_it_was_after_what_was_hushed(capfd):
    with hushed():
        os.write(2, b"frame #0\n")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
