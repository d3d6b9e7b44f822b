"""What a model will take in memory, asked of the model itself, and never a reason not to run it."""

import pytest
from builders import tiny

from specbench.cloud import CloudModel
from specbench.models import caches, memory
from specbench.profile import CloudSpec

TOKENS = [*range(10, 30)] * 5  # more than a window keeps
GEMMA4 = {
    "head_dim": 8, "global_head_dim": 16, "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 64, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96,
    "num_kv_shared_layers": 0,
}  # fmt: skip
DEEPSEEK = {
    "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "head_dim": 4, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_shared_experts": 1,
}  # fmt: skip


def cloud(folder, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", **fields))


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("gemma4_text", GEMMA4),  # layers with heads of different sizes
        ("mistral", {"sliding_window": 8}),  # layers that drop what is older than their window
        ("falcon", {"multi_query": True, "new_decoder_architecture": False}),  # one key head, in no field
        ("deepseek_v3", DEEPSEEK),  # keys and values of different sizes
        (
            "mixtral",
            {"num_local_experts": 4},
        ),  # experts
        ("mamba", {"state_size": 4}),  # a state of one size
    ],
)
def test_the_estimate_of_a_cache_is_what_a_session_holds(tmp_path, model_type, fields):
    model = cloud(tiny(tmp_path, model_type, **fields))
    estimated = memory.estimate(model.config, "float32", len(TOKENS), drops=True).cache
    session = model.engine.session()
    for token in TOKENS:
        session.extend([token])
        session.truncate(session.length)
    held = [tensor for part, _ in caches.parts(session.cache) for tensor in caches.tensors(part)]
    assert estimated == sum(tensor.nbytes for tensor in held)


def test_layers_that_keep_all_tokens_are_estimated_so(tmp_path):
    config = cloud(tiny(tmp_path, "mistral", sliding_window=8)).config
    few, many = (memory.estimate(config, "float32", count).cache for count in (50, 100))
    assert many == 2 * few


DECIDES_BY_VALUES = """class Own(Base):
    def forward(self, input_ids=None, **arguments):
        input_ids.sum().item()
        return super().forward(input_ids=input_ids, **arguments)
"""


@pytest.mark.parametrize(
    ("model_type", "said"),
    [("llama", "GB in float32 on cpu"), ("mamba", "GB plus a cache of unknown size in float32 on cpu")],
)
def test_a_cache_that_no_pass_can_show_is_read_from_the_configuration_or_said_to_be_unknown(
    specbench, profile, tmp_path, model_type, said
):
    folder = tiny(tmp_path / "m", model_type, code=DECIDES_BY_VALUES)
    path = profile(cloud={"model": str(folder), "trust_remote_code": True}, workload={"limit": 1})
    done = specbench("run", "cloud_optimized_baseline", "--profile", path)
    assert done.code == 0, done.err
    assert said in done.err
