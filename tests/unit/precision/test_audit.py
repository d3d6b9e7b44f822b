"""The precision audit, against models that lie."""

import shutil

import pytest
import torch
from builders import tiny_of
from safetensors.torch import load_file, save_file
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.models.llama.modeling_llama import LlamaModel

from specbench import precision as auditing
from specbench.cloud import CloudModel
from specbench.models.library import cache_argument
from specbench.precision import audit_findings, audit_model, parity_findings, remarks
from specbench.profile import CloudSpec, EdgeSpec, Precision, Profile
from specbench.testing import tiny_llama, tiny_tokenizer


def engine_of(folder, **fields):
    fields = {"device": "cpu", **fields}
    return CloudModel(CloudSpec(model=str(folder), **fields)).engine


@pytest.fixture
def engine(models):
    return engine_of(models / "target")


def look(engine, role="cloud", **fields):
    return audit_model(role, "m", engine, **fields)


def test_an_honest_model_passes_and_is_described(engine):
    audit = look(engine)
    assert audit.problem is None
    assert audit_findings([audit], "edge_cloud") == []
    assert [(group.dtype, group.tensors) for group in audit.parameters] == [("float32", 21)]
    assert audit.parameters[0].bytes == sum(p.numel() * 4 for p in engine.loaded.model.parameters())
    assert [group.dtype for group in audit.cache] == ["float32"]
    assert (audit.logits, audit.stored) == ("float32", ("F32 x21",))
    assert (audit.attention, audit.tied, audit.adapters, audit.offloaded) == ("sdpa", (), (), ())


def test_a_layer_of_another_dtype_is_named(engine):
    layer = engine.loaded.model.model.layers[1].mlp.up_proj
    layer.to(torch.bfloat16).register_forward_pre_hook(lambda _, args: (args[0].bfloat16(),))
    layer.register_forward_hook(lambda _, args, out: out.float())
    audit = look(engine)
    assert audit.problem.startswith(
        "cloud: model.layers.1.mlp.up_proj.weight is bfloat16, declared is float32 (1 tensors differ)"
    )
    for parity in ("edge_cloud", "per_role"):
        (finding,) = audit_findings([audit], parity)
        assert finding.verdict == "differs"
        assert finding.subject == "cloud: model.layers.1.mlp.up_proj.weight"


def test_a_buffer_of_another_dtype_is_named(engine):
    engine.loaded.model.register_buffer("scale", torch.ones(3, dtype=torch.float16))
    assert "scale is float16" in look(engine).problem


def test_a_tensor_that_is_neither_parameter_nor_buffer_is_named(engine):
    engine.loaded.model.model.norm.hidden = torch.ones(3, dtype=torch.float16)
    assert "model.norm.hidden is float16" in look(engine).problem


ODD_ARCHITECTURES = {  # what each makes in another dtype than the one that it is asked for
    "gptj": ("bfloat16", "widened", "transformer.rotary_emb.embed_positions", "float32"),
    "lfm2_moe": ("float16", "widened", "model.layers.1.feed_forward.expert_bias", "float32"),
    "mamba": ("bfloat16", "widened", "cache.layers.0.recurrent_states.0", "float32"),
    "mamba-float64": ("float64", "narrowed", "logits", "float32"),
    "recurrent_gemma": ("float32", "narrowed", "model.normalizer", "bfloat16"),
}


@pytest.mark.parametrize("name", ODD_ARCHITECTURES)
def test_what_an_architecture_itself_makes_in_another_dtype_is_said_and_no_lie(tmp_path, name):
    dtype, how, tensor, other = ODD_ARCHITECTURES[name]
    folder = tiny_of(tmp_path / name, name.partition("-")[0])
    audit = look(engine_of(folder, dtype=dtype))
    assert audit.problem is None
    assert audit_findings([audit], "edge_cloud") == []
    (group,) = getattr(audit, how)
    assert (group.first, group.dtype) == (tensor, other)
    assert f"cloud: {how} by the architecture: {tensor} is {other}" in " ".join(
        remarks([audit], "edge_cloud", False)
    )


def test_a_tensor_that_the_architecture_makes_as_declared_is_a_lie_beside_one_that_it_does_not(tmp_path):
    engine = engine_of(tiny_of(tmp_path / "gptj", "gptj"), dtype="bfloat16")
    engine.loaded.model.transformer.ln_f.float().register_forward_pre_hook(lambda _, args: (args[0].float(),))
    engine.loaded.model.transformer.ln_f.register_forward_hook(lambda _, args, out: out.bfloat16())
    audit = look(engine)
    assert audit.problem == (
        "cloud: transformer.ln_f.weight is float32, declared is bfloat16 (2 tensors differ)"
    )
    assert audit.widened[0].first == "transformer.rotary_emb.embed_positions"


def test_logits_that_are_widened_by_hand_are_named_where_the_architecture_does_not(engine):
    engine.loaded.model.lm_head.register_forward_hook(lambda _, args, out: out.double())
    assert look(engine).problem == "cloud: logits is float64, declared is float32 (1 tensors differ)"


def test_integers_that_an_architecture_keeps_for_itself_are_no_weights(models, monkeypatch):
    """A table of positions, as a buffer of the class: it is there in whatever dtype the model is made."""
    honest = LlamaModel.__init__

    def with_table(self, config):
        honest(self, config)
        self.register_buffer("table", torch.zeros(2, 4, dtype=torch.int32), persistent=False)

    monkeypatch.setattr(LlamaModel, "__init__", with_table)
    engine = engine_of(models / "target")
    assert look(engine).problem is None
    engine.loaded.model.model.norm.register_buffer("table", torch.zeros(2, 4, dtype=torch.int32))
    assert "model.norm.table is int32" in look(engine).problem


def test_a_position_table_is_float32_by_design_and_nothing_else(engine, models):
    narrow = engine_of(models / "target", dtype="bfloat16")
    audit = look(narrow)
    assert audit.problem is None
    assert audit.widened[0].first == "model.rotary_emb.inv_freq"
    rotary = engine.loaded.model.model.rotary_emb
    rotary.inv_freq = rotary.inv_freq.to(torch.float16)
    assert "inv_freq is float16" in look(engine).problem


def test_a_cache_of_another_dtype_is_named(engine, monkeypatch):
    honest = DynamicLayer.update

    def narrow(self, *args, **kwargs):
        states = honest(self, *args, **kwargs)
        self.keys = self.keys.bfloat16()
        return states

    monkeypatch.setattr(DynamicLayer, "update", narrow)
    assert "cache.layers.0.keys is bfloat16" in look(engine).problem


def test_a_cache_that_cannot_be_seen_is_unknown_and_never_ok(engine, monkeypatch):
    """A model that keeps its state elsewhere leaves the cache that it was given empty."""
    honest = engine.loaded.model.forward

    name = cache_argument(engine.loaded.model)

    def elsewhere(**arguments):
        return honest(**{**arguments, name: DynamicCache()})

    monkeypatch.setattr(engine.loaded.model, "forward", elsewhere)
    (finding,) = audit_findings([look(engine)], "edge_cloud")
    assert (finding.verdict, finding.subject) == ("unknown", "cloud: cache")


def test_autocast_that_is_left_on_shows_in_logits_and_cache(engine):
    with torch.autocast("cpu", torch.bfloat16):
        audit = look(engine)
    assert audit.parameters[0].dtype == "float32"
    assert audit.logits == "bfloat16"
    assert "is bfloat16, declared is float32" in audit.problem


def test_weights_that_are_packed_out_of_sight_are_found(engine):
    """torch's own quantised layers hold neither parameters nor buffers."""
    model = engine.loaded.model
    torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    audit = look(engine)
    assert "model.layers.0.self_attn.q_proj.weight is qint8" in audit.problem
    assert audit.integers[0].dtype == "qint8"


def test_integer_weights_are_right_where_the_profile_quantises(engine):
    layer = engine.loaded.model.model.layers[0].mlp.up_proj
    layer.register_buffer("weight_int8", torch.ones(64, 32, dtype=torch.int8))
    assert "up_proj.weight_int8 is int8" in look(engine).problem
    layer.register_buffer("scales", torch.ones(64, dtype=torch.float16))
    assert look(engine, quantization="int8").problem is None
    engine.loaded.model.model.layers[1].register_buffer("scales", torch.ones(64, dtype=torch.float16))
    assert "model.layers.1.scales is float16" in look(engine, quantization="int8").problem


def test_a_quantised_draft_beside_a_whole_target_is_fair_per_role_and_said(models):
    edge, cloud = engine_of(models / "draft"), engine_of(models / "target")
    edge.loaded.model.register_buffer("weight_int8", torch.ones(64, 32, dtype=torch.int8))
    pair = [look(edge, "edge", quantization="int8"), look(cloud)]
    assert audit_findings(pair, "per_role") == []
    assert "edge is int8 weights, float32 arithmetic and cloud is float32: allowed" in " ".join(
        remarks(pair, "per_role", False)
    )
    (finding,) = audit_findings(pair, "edge_cloud")
    assert finding.message == "edge: weight_int8 is int8, and the cloud is float32"


def test_edge_and_cloud_that_differ_as_loaded_are_named_by_tensor(models):
    audits = [
        look(engine_of(models / "target", dtype=dtype), role)
        for role, dtype in (("edge", "float32"), ("cloud", "bfloat16"))
    ]
    assert audit_findings(audits, "per_role") == []
    (finding,) = audit_findings(audits, "edge_cloud")
    assert finding.message.startswith("cloud: model.embed_tokens.weight is bfloat16, and the edge is float32")
    assert finding.settings == ("cloud.dtype=float32",)


def test_a_checkpoint_stored_in_bfloat16_is_said_to_be_so(models, tmp_path):
    folder = shutil.copytree(models / "target", tmp_path / "narrow")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    audit = look(engine_of(folder))
    assert audit.stored == ("BF16 x21",)
    assert audit.problem is None
    (remark,) = remarks([audit], "edge_cloud", False)
    assert remark.startswith("cloud: the weights are stored as BF16 x21 and computed in float32")
    honest = look(engine_of(models / "target"))
    assert remarks([honest], "edge_cloud", False) == []


def test_tied_tensors_are_counted_once_and_named(tmp_path):
    audit = look(engine_of(tiny_llama(tmp_path / "tied", seed=3, tie_word_embeddings=True)))
    assert audit.tied == ("lm_head.weight = model.embed_tokens.weight",)
    assert audit.parameters[0].tensors == 20


def test_offloaded_tensors_are_found_and_have_the_dtype_that_they_are_computed_in(models, tmp_path):
    folder = shutil.copytree(models / "target", tmp_path / "narrow")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    engine = engine_of(
        folder,
        device="auto",
        device_map="auto",
        max_memory={"cpu": "0.02MB"},
        offload_folder=str(tmp_path / "o"),
    )
    audit = look(engine)
    assert audit.offloaded[0].dtype == "float32"
    assert audit.offloaded[0].tensors > 0
    assert audit.logits == "float32"
    assert audit.problem is None
    assert "tensors are offloaded" in " ".join(remarks([audit], "edge_cloud", False))


def test_adapter_layers_are_found_on_disk_and_in_the_model(models, tmp_path):
    peft = pytest.importorskip("peft")
    folder = shutil.copytree(models / "target", tmp_path / "adapted")
    base = engine_of(models / "target").loaded.model
    config = peft.LoraConfig(r=2, target_modules=["q_proj"])
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / name, folder)
    audit = look(engine_of(folder))
    on_disk, loaded = audit.adapters
    assert on_disk == "LORA of rank 2 in adapter_config.json (F32 x4)"
    assert loaded.startswith(
        "2 adapter layers in the loaded model, the first is model.layers.0.self_attn.q_proj"
    )
    assert audit.stored == ("F32 x21",)


def test_an_adapter_that_peft_keeps_in_float32_on_a_narrower_model_is_named(models):
    peft = pytest.importorskip("peft")
    engine = engine_of(models / "target", dtype="bfloat16")
    peft.get_peft_model(engine.loaded.model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert "lora_A.default.weight is float32, declared is bfloat16" in look(engine).problem


@pytest.mark.parametrize(("parity", "count"), [("edge_cloud", 1), ("per_role", 0), ("off", 0)])
def test_declared_dtypes_are_held_to_the_profiles_rule(parity, count):
    profile = Profile(
        edge=EdgeSpec(model="a"),
        cloud=CloudSpec(model="b", dtype="float16"),
        precision=Precision(parity=parity),
    )
    assert len(parity_findings(profile)) == count
    said = " ".join(auditing.declared_remarks(profile))
    assert ("allowed by" in said, "precision is not checked" in said) == (parity == "per_role", parity == "off")


def test_the_architectures_own_float32_parts_are_no_lie(tmp_path):
    """DeepSeek's router, its bias at least, stays in float32 whatever the dtype of the rest."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=96, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=4, kv_lora_rank=8,
        q_lora_rank=8, qk_rope_head_dim=8, v_head_dim=8, qk_nope_head_dim=8, n_group=1, topk_group=1,
        num_experts_per_tok=2, first_k_dense_replace=1, eos_token_id=1,
    )  # fmt: skip
    DeepseekV3ForCausalLM(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    audit = look(engine_of(tmp_path, dtype="bfloat16"))
    assert audit.problem is None
    assert [(group.dtype, ".mlp.gate." in group.first) for group in audit.widened] == [("float32", True)]
