"""The precision audit, against models that lie."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from specbench.audit import audit_model, audit_problems, parity_problems
from specbench.config import CloudSpec, EdgeSpec, Precision, Profile
from specbench.factories import CloudModel


@pytest.fixture
def engine(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu"), say=lambda line: None).engine


def test_an_honest_model_passes_and_is_described(engine):
    audit = audit_model("cloud", "m", engine)
    assert audit.problem is None
    assert [(group.dtype, group.tensors) for group in audit.parameters] == [("float32", 21)]
    assert [group.dtype for group in audit.cache] == ["float32"]
    assert (audit.logits, audit.stored) == ("float32", ("F32 x21",))


def test_a_layer_of_another_dtype_is_named(engine):
    layer = engine.loaded.model.model.layers[1].mlp.up_proj
    layer.to(torch.bfloat16).register_forward_pre_hook(lambda _, args: (args[0].bfloat16(),))
    layer.register_forward_hook(lambda _, args, out: out.float())
    problem = audit_model("cloud", "m", engine).problem
    assert problem.startswith("cloud: model.layers.1.mlp.up_proj.weight is bfloat16, declared is float32")


def test_a_buffer_of_another_dtype_is_named(engine):
    engine.loaded.model.register_buffer("scale", torch.ones(3, dtype=torch.float16))
    assert "scale is float16" in audit_model("cloud", "m", engine).problem


def test_a_cache_of_another_dtype_is_named(engine, monkeypatch):
    honest = DynamicLayer.update

    def narrow(self, *args, **kwargs):
        states = honest(self, *args, **kwargs)
        self.keys = self.keys.bfloat16()
        return states

    monkeypatch.setattr(DynamicLayer, "update", narrow)
    assert "cache.layers.0.keys is bfloat16" in audit_model("cloud", "m", engine).problem


def test_edge_and_cloud_that_differ_as_loaded_are_named_by_tensor(models):
    audits = [
        audit_model(
            role, "m", CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype=dtype)).engine
        )
        for role, dtype in (("edge", "float32"), ("cloud", "bfloat16"))
    ]
    assert audit_problems(audits, "per_role") == []
    (problem,) = audit_problems(audits, "edge_cloud")
    assert problem.startswith("cloud: model.embed_tokens.weight is bfloat16, and the edge is float32")


@pytest.mark.parametrize(("parity", "count"), [("edge_cloud", 1), ("per_role", 0), ("off", 0)])
def test_declared_dtypes_are_held_to_the_profiles_rule(parity, count):
    profile = Profile(
        edge=EdgeSpec(model="a"),
        cloud=CloudSpec(model="b", dtype="float16"),
        precision=Precision(parity=parity),
    )
    assert len(parity_problems(profile)) == count
