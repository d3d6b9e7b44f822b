"""How many tokens a model can read, and prompts that are longer than its original length."""

import json

import pytest
from transformers import Gemma3TextConfig, XLNetConfig

from specbench.api import CloudModel
from specbench.models.context import context_length
from specbench.profile import CloudSpec
from specbench.testing import tiny_llama

SCALED = {"rope_theta": 1e4, "factor": 4.0}


@pytest.mark.parametrize(
    ("positions", "length", "context"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 64, 64),
        ({"rope_type": "yarn", "original_max_position_embeddings": 64, **SCALED}, 64, 256),
        ({"rope_type": "yarn", **SCALED}, 64, 256),
        ({"rope_type": "linear", **SCALED}, 64, 256),
        ({"rope_type": "dynamic", **SCALED}, 64, 256),
        # Qwen3's card: the length in the file is neither the original nor the stretched one.
        ({"rope_type": "yarn", "original_max_position_embeddings": 64, **SCALED}, 80, 256),
        # DeepSeek, gpt-oss: it is the stretched one.
        ({"rope_type": "yarn", "original_max_position_embeddings": 64, **SCALED}, 256, 256),
        # Llama 3.2: its factor is larger than the stretch.
        (
            {
                "rope_type": "llama3", "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, **SCALED,
            },
            128,
            128,
        ),
    ],
)  # fmt: skip
def test_the_context_is_what_scaled_positions_let_a_model_read(tmp_path, positions, length, context):
    folder = tiny_llama(tmp_path / "scaled", 3, max_position_embeddings=length, rope_parameters=positions)
    cloud = CloudModel(CloudSpec(model=str(folder), device="cpu"))
    assert cloud.context_length == context


def test_where_only_some_layers_are_scaled_the_context_is_the_declared_one():
    settings = Gemma3TextConfig(
        max_position_embeddings=512,
        rope_parameters={
            "full_attention": {"rope_type": "linear", **SCALED},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    assert context_length(settings) == 512


def test_a_model_that_names_no_context_has_none():
    assert context_length(XLNetConfig()) is None


def test_a_prompt_beyond_the_original_length_of_scaled_positions_is_answered(specbench, profile, tmp_path):
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 64, **SCALED}
    pair = {
        role: {"model": str(tiny_llama(tmp_path / role, 3, max_position_embeddings=64, rope_parameters=yarn))}
        for role in ("edge", "cloud")
    }
    question = {"question_id": 1, "category": "qa", "turns": ["a long question " * 7]}
    (tmp_path / "long.jsonl").write_text(json.dumps(question))
    where = profile(**pair, workload={"prompts": str(tmp_path / "long.jsonl"), "max_new_tokens": 12})
    done = specbench("run", "speculative", "--profile", where)
    assert done.code == 0, done.err
