"""An edge whose matrices are held in eight or four bits."""

from __future__ import annotations

import pytest
import torch
from specbench.plugins.speculative import SpeculativeDecoding
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.engine import bandwidth, kernels
from specbench.engine.quantized import (
    UNPACK,
    QuantizedEmbedding,
    QuantizedExperts,
    QuantizedLinear,
    QuantizedMatrix,
)
from specbench.errors import ExitCode, SpecbenchError
from specbench.models import memory
from specbench.precision import audit_findings, declared_precision, parity_findings
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Precision, Profile, Speculative
from specbench.testing import answer, tiny_llama, tiny_tokenizer, tokens_of

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads

KINDS = ("int8", "int4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(
        tmp_path_factory.mktemp("quantised") / "target", seed=7, hidden_size=32, intermediate_size=64
    )


SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 1,
    "pad_token_id": None, "initializer_range": 0.3,
}  # fmt: skip
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96, "initializer_range": 0.3}
OTHER_LAYERS = {
    "gpt2": GPT,
    "gemma": SMALL,
    "gemma3_text": {**SMALL, "sliding_window": 8},
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.3},
    "falcon": {name: value for name, value in SMALL.items() if name != "head_dim"},
    "biogpt": SMALL,
    "lfm2": {**SMALL, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
}
MIXTURES = {
    "mixtral": {**SMALL, "num_local_experts": 4},
    "gpt_oss": {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32},
    "qwen3_moe": {**SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "llama4_text": {**SMALL, "num_local_experts": 2, "intermediate_size_mlp": 64},
}


def written(folder, kind):
    torch.manual_seed(3)
    config = CONFIG_MAPPING[kind](**{**OTHER_LAYERS, **MIXTURES}[kind])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edge(folder, kind):
    return EdgeModel(EdgeSpec(model=str(folder), quantization=kind))


def logits(engine):
    return engine.session().extend([5, 9, 17, 33, 60])


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_model_computes_what_its_dequantised_weights_do(folder, kind):
    quantised = edge(folder, kind).engine
    plain = EdgeModel(EdgeSpec(model=str(folder))).engine
    before = logits(plain)
    held = dict(quantised.loaded.model.named_modules())
    for name, module in plain.loaded.model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight = nn.Parameter(UNPACK[kind](*held[name].tensors), requires_grad=False)
    torch.testing.assert_close(logits(quantised), logits(plain), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, logits(plain), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_matrix_is_quantised_and_norms_stay_float32(folder, kind):
    model = edge(folder, kind).engine.loaded.model
    assert not any(isinstance(module, (nn.Linear, nn.Embedding)) for module in model.modules())
    assert {tensor.dim() for _, tensor in model.named_parameters()} == {1}
    assert {tensor.dtype for _, tensor in model.named_parameters()} == {torch.float32}


def test_a_tied_head_shares_the_embeddings_only_copy(tmp_path):
    folder = tiny_llama(tmp_path / "tied", seed=3, tie_word_embeddings=True)
    model = edge(folder, "int8").engine.loaded.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert isinstance(model.lm_head, QuantizedLinear)
    assert isinstance(model.model.embed_tokens, QuantizedEmbedding)


def test_a_bias_is_added():
    linear = nn.Linear(64, 8)
    tensors = kernels.quantize_int8(linear.weight.detach())
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    ours = QuantizedLinear("int8", tensors, linear.bias.detach())
    torch.testing.assert_close(ours(x), nn.functional.linear(x, kernels.dequantize_int8(*tensors), linear.bias))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("draft_length", [1, 4])
def test_a_quantised_draft_changes_nothing_of_the_targets_text(folder, kind, draft_length):
    cloud = CloudModel(CloudSpec(model=str(folder), device="cpu"))
    options = Options(Decoding(), Speculative(draft_length=draft_length))
    accepted = 0
    for seed in range(4):
        request = Request(tuple(range(10 + seed, 40 + seed)), 40, frozenset())
        rounds = answer(SpeculativeDecoding().open(edge(folder, kind), cloud, options), request)
        alone = answer(AutoregressiveDecoder(cloud.target(options)), request)
        assert tokens_of(rounds) == tokens_of(alone)
        accepted += sum(part.accepted or 0 for part in rounds)
    assert accepted > 0


def test_parity_of_edge_and_cloud_refuses_it_and_parity_per_role_allows_it(folder):
    def problems(parity):
        return parity_findings(
            Profile(
                edge=EdgeSpec(model=str(folder), quantization="int8"),
                cloud=CloudSpec(model=str(folder)),
                precision=Precision(parity=parity),
            )
        )

    (problem,) = problems("edge_cloud")
    assert "edge.quantization is int8" in problem.message
    assert problems("per_role") == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_shows_the_integers_and_names_the_arithmetic(folder, kind):
    audits = [
        edge(folder, kind).audit(),
        CloudModel(CloudSpec(model=str(folder), device="cpu")).audit(),
    ]
    assert audits[0].declared == f"{kind} weights, float32 arithmetic"
    assert ("int8" if kind == "int8" else "uint8") in {group.dtype for group in audits[0].buffers}
    assert (audits[0].logits, audits[0].problem) == ("float32", None)
    assert audit_findings(audits, "per_role") == []
    assert audit_findings(audits, "edge_cloud") != []
    assert declared_precision(edge(folder, kind).spec) == audits[0].declared


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_estimate_is_what_the_model_takes(folder, kind):
    factory = edge(folder, kind)
    model = factory.engine.loaded.model
    tensors = {id(tensor): tensor for module in model.modules() for tensor in getattr(module, "tensors", ())}
    held = [*tensors.values(), *model.parameters()]
    assert memory.estimate(factory.config, "float32", 1, kind).weights == sum(tensor.nbytes for tensor in held)


def test_other_numbers_and_other_devices_are_refused():
    for field in ({"dtype": "bfloat16"}, {"device": "cuda"}, {"device": "auto"}):
        with pytest.raises(SpecbenchError, match="computes in float32 on the CPU"):
            EdgeModel(EdgeSpec(model="m", quantization="int8"), **field)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", OTHER_LAYERS)
def test_transposed_scaled_and_own_layers_compute_what_their_dequantised_weights_do(
    tmp_path, architecture, kind
):
    folder = written(tmp_path, architecture)
    quantised = edge(folder, kind).engine
    plain = EdgeModel(EdgeSpec(model=str(folder))).engine
    before = logits(plain)
    for name, held in quantised.loaded.model.named_modules():
        if isinstance(held, QuantizedMatrix):
            module, rows = plain.loaded.model.get_submodule(name), UNPACK[kind](*held.tensors)
            rows = rows.T.contiguous() if isinstance(module, Conv1D) else rows
            module.weight = nn.Parameter(rows, requires_grad=False)
    torch.testing.assert_close(logits(quantised), logits(plain), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, logits(plain), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss", "qwen3_moe"])
def test_a_mixture_computes_what_its_dequantised_experts_do_and_reads_those_that_a_token_chooses(
    tmp_path, architecture, kind
):
    folder = written(tmp_path, architecture)
    quantised = edge(folder, kind).engine.loaded.model
    plain = EdgeModel(EdgeSpec(model=str(folder))).engine
    whole, unread = bandwidth.weight_bytes(plain.loaded.model), 0
    before = logits(plain)
    mixtures = {name: part for name, part in quantised.named_modules() if isinstance(part, QuantizedExperts)}
    assert len(mixtures) == 2
    for name, held in quantised.named_modules():
        if not isinstance(held, QuantizedMatrix):
            continue
        owner, _, own = name.rpartition(".")
        if owner not in mixtures:
            rows = UNPACK[kind](*held.tensors)
            plain.loaded.model.get_submodule(name).weight = nn.Parameter(rows, requires_grad=False)
            continue
        experts = plain.loaded.model.get_submodule(owner)
        weights = torch.stack([UNPACK[kind](*parts) for parts in zip(*held.tensors, strict=True)])
        weights = weights.transpose(1, 2) if experts.is_transposed else weights
        setattr(experts, own, nn.Parameter(weights, requires_grad=False))
        unread += sum(part.nbytes for part in held.tensors) // 2  # a token chooses two of four
    found = logits(edge(folder, kind).engine)
    torch.testing.assert_close(found, logits(plain), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, found, rtol=1e-4, atol=1e-4)
    held = {id(part): part.nbytes for module in quantised.modules() for part in getattr(module, "tensors", ())}
    table = sum(part.nbytes for part in quantised.get_input_embeddings().tensors)
    others = sum(part.nbytes for part in quantised.parameters())
    chosen_biases = sum(
        part.nbytes // 2 for name, part in quantised.named_parameters() if name.endswith("proj_bias")
    )
    read = bandwidth.weight_bytes(quantised)
    assert read == sum(held.values()) + others - table - unread - chosen_biases
    assert read < 0.6 * whole


def test_a_tied_head_is_not_scaled_with_its_embedding(tmp_path):
    model = edge(written(tmp_path, "gemma"), "int8").engine.loaded.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.model.embed_tokens.embed_scale == pytest.approx(32**0.5)


def test_tables_of_positions_and_convolutions_stay_float32(tmp_path):
    for architecture, left in (("opt", "embed_positions.weight"), ("lfm2", "conv.conv.weight")):
        model = edge(written(tmp_path / architecture, architecture), "int8").engine.loaded.model
        names = [name for name, tensor in model.named_parameters() if tensor.dim() > 1]
        assert names
        assert all(name.endswith(left) for name in names)


def test_a_model_that_cannot_be_quantised_is_refused_before_any_is_read(specbench, profile, tmp_path):
    folder = written(tmp_path / "experts", "llama4_text")
    held = {"model": str(folder), "quantization": "int8"}
    where = profile(edge=held, precision={"parity": "per_role"})
    done = specbench("run", "speculative", "--profile", where)
    assert done.code == ExitCode.MODEL
    said = " ".join(done.err.split())
    assert (
        "cannot be quantised: its experts are no layers of their own (model.layers.0.feed_forward.experts"
        in said
    )
    assert "loading" not in said


def test_rows_that_are_not_whole_groups_are_refused_in_four_bits(tmp_path):
    folder = tiny_llama(tmp_path / "odd", seed=3, hidden_size=24, intermediate_size=36)
    with pytest.raises(SpecbenchError, match="not whole groups of 32"):
        _ = edge(folder, "int4").engine
    assert edge(folder, "int8").engine.loaded.quantization == "int8"


def test_without_a_compiler_one_error_says_so(folder, monkeypatch):
    monkeypatch.setattr(
        kernels, "load", lambda: (_ for _ in ()).throw(SpecbenchError("there is no C++ compiler"))
    )
    with pytest.raises(SpecbenchError, match=r"no C\+\+ compiler"):
        _ = edge(folder, "int8").engine
