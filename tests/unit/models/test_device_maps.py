"""Targets that are mapped over devices or offloaded, and the memory that they take."""

import pytest
from builders import PLAIN

from specbench.api import CloudModel, Request
from specbench.models import memory, placement
from specbench.profile import CloudSpec
from specbench.testing import tiny_llama


def test_the_memory_estimate_is_what_the_model_takes(models):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    estimated = memory.estimate(cloud.config, "float32", context_tokens=50)
    parameters = sum(p.numel() * p.element_size() for p in cloud.engine.loaded.model.parameters())
    session = cloud.engine.session()
    session.prefill(list(range(10, 60)))
    assert estimated.weights == parameters
    assert estimated.cache == sum(t.numel() * t.element_size() for _, t in session.tensors())


def test_a_device_map_with_limits_gives_the_same_text(models, tmp_path):
    request = Request(tuple(range(20, 40)), 10, frozenset())
    plain = CloudModel(CloudSpec(model=str(models / "target"), device="cpu")).target(PLAIN)
    mapped = CloudModel(
        CloudSpec(
            model=str(models / "target"),
            device_map="auto",
            max_memory={"cpu": "1GiB"},
            offload_folder=str(tmp_path / "offload"),
        )
    ).target(PLAIN)
    texts = []
    for target in (plain, mapped):
        first = target.begin(request)
        texts.append([*first.tokens, *(token for commit in target.decode() for token in commit.tokens)])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("limit", ["1.5MB", "0.01MB"])
def test_a_target_that_does_not_fit_is_offloaded_to_disk_and_gives_the_same_text(tmp_path, limit):
    folder = tiny_llama(tmp_path / "big", seed=2, hidden_size=128, num_hidden_layers=6, intermediate_size=512)
    request = Request(tuple(range(20, 40)), 8, frozenset())
    mapped = {"device_map": "auto", "max_memory": {"cpu": limit}, "offload_folder": str(tmp_path / "offload")}
    texts = []
    for fields in ({"device": "cpu"}, mapped):
        target = CloudModel(CloudSpec(model=str(folder), **fields)).target(PLAIN)
        first = target.begin(request)
        texts.append([*first.tokens, *(token for commit in target.decode() for token in commit.tokens)])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("device_map", ["auto", "sequential"])
@pytest.mark.parametrize("limit", ["1.5MB", "2.5MB", "0.01MB", "1GB"])
def test_the_memory_estimate_knows_where_accelerate_puts_the_weights(tmp_path, limit, device_map):
    folder = tiny_llama(tmp_path / "big", seed=2, hidden_size=128, num_hidden_layers=6, intermediate_size=512)
    spec = CloudSpec(model=str(folder), device_map=device_map, max_memory={"cpu": limit})
    cloud = CloudModel(spec)
    where = placement.placed(cloud.config, spec, memory.estimate(cloud.config, "float32", 50))
    model = cloud.engine.loaded.model
    on_disk = sum(p.nbytes for p in model.parameters() if p.device.type == "meta")
    total = sum(p.nbytes for p in model.parameters())
    cache = memory.estimate(cloud.config, "float32", 50).cache
    assert where.get("disk", 0) == on_disk
    assert (on_disk == 0) == (limit == "1GB")
    resident = where["cpu"] - cache - (total - on_disk)  # of what is on disk the matrix that computes
    assert resident == (512 * 128 * 4 if on_disk else 0)


def test_a_mapped_target_that_does_not_fit_beside_what_is_free_is_refused_before_it_is_read(
    specbench, profile, monkeypatch
):
    path = profile(cloud={"device": "auto", "device_map": "auto", "max_memory": {"cpu": "1GB"}})
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    done = specbench("run", "cloud_optimized_baseline", "--profile", path)
    assert done.code == 4
    assert "GB on cpu, but only 0.0 GB are free" in done.err
    assert "cloud.max_memory" in done.err
