"""A text on whose way a model changes its rotary frequencies is refused; on one side of the switch it runs."""

import json

import pytest

from specbench.api import AutoregressiveDecoder, CloudModel, Options, Request
from specbench.engine import batch
from specbench.models.context import switch_of
from specbench.profile import CloudSpec, Decoding, EngineSpec, Speculative
from specbench.testing import answer, tiny_llama, tiny_tokenizer, tokens_of

SWITCH = 40
GREEDY = Options(Decoding(), Speculative())


@pytest.fixture(scope="module")
def phi3(tmp_path_factory):
    """A random Phi-3 that reads texts of more than `SWITCH` tokens with other frequencies."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    folder = tmp_path_factory.mktemp("phi3")
    scaling = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4,
               "long_factor": [1.0, 3.0, 8.0, 20.0]}  # fmt: skip
    torch.manual_seed(5)
    config = Phi3Config(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, original_max_position_embeddings=SWITCH,
        bos_token_id=None, eos_token_id=1, pad_token_id=None, initializer_range=0.3, rope_parameters=scaling,
    )  # fmt: skip
    Phi3ForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def run(specbench, profile, tmp_path, model, lengths, budget, *methods):
    """A run on prompts of these lengths; the template adds three tokens."""
    path = tmp_path / "lengths.jsonl"
    rows = [{"question_id": n, "category": "c", "turns": ["a" * (each - 3) for each in turns]}
            for n, turns in enumerate(lengths)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair = {"model": str(model)}
    workload = {"prompts": str(path), "limit": None, "max_new_tokens": budget, "warmup": 0}
    written = profile(edge=pair, cloud=pair, workload=workload)
    return specbench("run", *(methods or ["speculative"]), "--profile", written)


@pytest.mark.parametrize(
    ("lengths", "budget", "is_crossed"),
    [([(21,)], 20, False), ([(21,)], 21, True), ([(40,)], 2, True), ([(41,)], 30, False),
     ([(12,), (41,)], 29, False), ([(41,), (30,)], 12, True), ([(8, 8)], 8, False), ([(10, 10)], 12, True)],
)  # fmt: skip
def test_prompt_and_budget_that_pass_the_switch_are_refused_before_anything_is_loaded(
    specbench, profile, tmp_path, phi3, lengths, budget, is_crossed
):
    done = run(specbench, profile, tmp_path, phi3, lengths, budget)
    assert done.code == (2 if is_crossed else 0), done.err
    if is_crossed:
        said = " ".join(done.err.split())
        assert f"may pass {SWITCH} tokens" in said
        assert f"with a budget of {budget}" in said
        assert "longrope" in said
        assert "loading" not in said


def test_all_methods_agree_on_the_far_side_of_the_switch(specbench, profile, tmp_path, phi3):
    methods = ["speculative", "hf_assisted", "cloud_baseline", "prompt_lookup"]
    done = run(specbench, profile, tmp_path, phi3, [(41,), (60,), (300,)], 24, *methods)
    assert done.code == 0, done.err
    assert "tie:" not in done.out


@pytest.mark.slow
def test_a_compiled_engine_reads_a_long_prompt_in_one_pass_where_its_length_decides_how(phi3):
    """In chunks of 256 tokens the first one would have the frequencies of a shorter text."""
    request = Request(tuple(index % 90 + 4 for index in range(400)), 12, frozenset())
    texts = []
    for kind in ("eager", "compiled"):
        cloud = CloudModel(CloudSpec(model=str(phi3), device="cpu"), engine=EngineSpec(kind=kind))
        assert cloud.engine.kind == kind
        texts.append(tokens_of(answer(AutoregressiveDecoder(cloud.target(GREEDY)), request)))
        assert cloud.recomputed(GREEDY, request, texts[-1]).position is None
    assert texts[0] == texts[1]


def test_texts_of_such_a_model_share_no_pass(phi3):
    engine = CloudModel(CloudSpec(model=str(phi3), device="cpu")).engine
    assert "longrope" in batch.obstacle(engine)


def test_dynamic_scaling_changes_at_every_length_beyond_the_context(tmp_path):
    scaling = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    folder = tiny_llama(tmp_path / "dynamic", seed=2, max_position_embeddings=64, rope_parameters=scaling)
    switch = switch_of(CloudModel(CloudSpec(model=str(folder))).config)
    assert (switch.kind, switch.length) == ("dynamic", 64)
    assert not switch.is_crossed(20, 64)
    assert switch.is_crossed(20, 65)
    assert switch.is_crossed(70, 80)
    assert switch_of(CloudModel(CloudSpec(model=str(tiny_llama(tmp_path / "plain", seed=2)))).config) is None
