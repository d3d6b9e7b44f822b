"""The limit that memory sets: what is counted, and the share of it."""

import pytest
import torch
from builders import generation, manifest
from comparisons import PROFILE
from transformers import MixtralConfig, MixtralForCausalLM

from specbench.analysis.comparison import compare
from specbench.api import CloudModel, EdgeModel
from specbench.bench.ceiling import decoding_ms
from specbench.config import CloudSpec, EdgeSpec
from specbench.decoding import bandwidth
from specbench.errors import SpecbenchError
from specbench.records import Ceiling, Run
from specbench.render.tables import comparison_table
from specbench.testing import tiny_llama


@pytest.fixture(autouse=True)
def small_reads(monkeypatch):
    monkeypatch.setattr(bandwidth, "READ_BYTES", 1 << 24)
    bandwidth.read_bandwidth.cache_clear()
    yield
    bandwidth.read_bandwidth.cache_clear()


def no_compiler():
    raise SpecbenchError("there is none")


def weights_of(folder):
    return CloudModel(CloudSpec(model=str(folder), device="cpu"), say=lambda line: None).engine.loaded.model


def test_a_lookup_table_is_not_read_and_a_tied_one_is_read_by_the_head(tmp_path):
    untied = weights_of(tiny_llama(tmp_path / "untied", seed=3, tie_word_embeddings=False))
    tied = weights_of(tiny_llama(tmp_path / "tied", seed=3, tie_word_embeddings=True))
    everything = sum(parameter.nbytes for parameter in untied.parameters())
    assert bandwidth.weight_bytes(untied) == everything - untied.model.embed_tokens.weight.nbytes
    assert bandwidth.weight_bytes(tied) == bandwidth.weight_bytes(untied)


def test_quantised_weights_count_as_the_bytes_they_are(tmp_path):
    folder = tiny_llama(tmp_path / "m", seed=3, hidden_size=32, intermediate_size=64)
    plain = bandwidth.weight_bytes(weights_of(folder))
    shares = {}
    for kind in ("int8", "int4"):
        edge = EdgeModel(EdgeSpec(model=str(folder), quantization=kind), say=lambda line: None)
        shares[kind] = bandwidth.weight_bytes(edge.engine.loaded.model) / plain
    assert 0.25 < shares["int8"] < 0.4
    assert 0.15 < shares["int4"] < shares["int8"]


def test_of_a_mixture_of_experts_nothing_is_claimed():
    config = MixtralConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=32, num_local_experts=2,
    )  # fmt: skip
    assert bandwidth.weight_bytes(MixtralForCausalLM(config)) is None


def test_bandwidth_is_measured_once_per_process(monkeypatch):
    first = bandwidth.read_bandwidth("cpu", torch.get_num_threads())
    monkeypatch.setattr(bandwidth, "_seconds", lambda *_: pytest.fail("measured twice"))
    assert bandwidth.read_bandwidth("cpu", torch.get_num_threads()) == first > 0


def test_the_share_is_the_rate_over_the_limit():
    ceiling = Ceiling(weight_bytes=500, bytes_per_second=50_000)
    assert ceiling.tokens_per_second == 100
    assert ceiling.share(20.0) == pytest.approx(0.5)
    assert ceiling.share(None) is None
    assert Ceiling(None, 50_000).share(20.0) is None


def test_the_ceiling_of_a_loaded_model(tmp_path):
    cloud = CloudModel(
        CloudSpec(model=str(tiny_llama(tmp_path / "m", seed=3)), device="cpu"), say=lambda line: None
    )
    ceiling = cloud.ceiling()
    assert ceiling.weight_bytes == bandwidth.weight_bytes(cloud.engine.loaded.model)
    assert ceiling.tokens_per_second > 0
    assert decoding_ms(cloud, 48) > 0


def test_limits_prints_each_model_with_its_share(specbench, profile):
    done = specbench("limits", "--profile", profile(), "--json")
    assert done.code == 0
    for role in ("edge", "cloud"):
        row = done.json["models"][role]
        assert row["ceiling_tokens_per_second"] == pytest.approx(row["bytes_per_second"] / row["weight_bytes"])
        assert row["share"] == pytest.approx(row["tokens_per_second"] / row["ceiling_tokens_per_second"])
    assert "ceiling" in specbench("limits", "--profile", profile()).out


def test_reading_takes_no_more_than_a_part_of_the_memory_that_is_left(monkeypatch):
    sizes = []
    monkeypatch.setattr(bandwidth, "free_bytes", lambda device: 4 << 20)
    monkeypatch.setattr(
        bandwidth, "_seconds", lambda reader, place: sizes.append(reader.__self__.nbytes) or 1.0
    )
    monkeypatch.setattr(bandwidth.kernels, "load", no_compiler)
    assert bandwidth.read_bandwidth("cpu", torch.get_num_threads()) == 1 << 20
    assert set(sizes) == {1 << 20}


def test_reading_takes_no_more_than_a_part_of_what_the_edge_is_limited_to(monkeypatch):
    monkeypatch.setattr(bandwidth.confinement, "free_bytes", lambda: 4 << 20)
    sizes = []
    monkeypatch.setattr(
        bandwidth, "_seconds", lambda reader, place: sizes.append(reader.__self__.nbytes) or 1.0
    )
    monkeypatch.setattr(bandwidth.kernels, "load", no_compiler)
    assert bandwidth.read_bandwidth("cpu", torch.get_num_threads()) == 1 << 20
    assert set(sizes) == {1 << 20}


def test_a_run_keeps_the_ceiling_of_each_model_and_shows_every_methods_share_of_it(specbench, profile):
    done = specbench("run", "speculative", "edge_baseline", "--profile", profile(), "--json")
    assert done.code == 0
    for name, row in done.json["methods"].items():
        per_second = 1000 / row["tpot_ms"]
        assert row["share_of_ceiling"] == pytest.approx(per_second / row["ceiling_tokens_per_second"]), name
    edge, cloud = (done.json["methods"][name] for name in ("edge_baseline", "speculative"))
    assert edge["ceiling_tokens_per_second"] > cloud["ceiling_tokens_per_second"]  # it has fewer layers
    table = specbench("compare").out
    assert f"{cloud['share_of_ceiling']:.1%}" in table
    assert "share of" in table


def test_runs_stored_before_the_ceiling_was_measured_have_no_share():
    record = generation(method="m")
    new, old = (
        Run(manifest(profile=PROFILE, ceilings=known), (record,)) for known in ({"cloud": Ceiling(5, 1e3)}, {})
    )
    assert compare([new]).methods[0].share_of_ceiling == pytest.approx(1000 / 10 / 200)
    row = compare([old]).methods[0]
    assert (row.ceiling_tokens_per_second, row.share_of_ceiling) == (None, None)
    comparison_table(compare([old]))


def test_runs_that_measured_another_bandwidth_are_compared():
    runs = [
        Run(manifest(name, profile=PROFILE, ceilings={"cloud": Ceiling(5, speed)}), (generation(method="m"),))
        for name, speed in (("r1", 1e3), ("r2", 2e3))
    ]
    assert [row.share_of_ceiling for row in compare(runs).methods] == pytest.approx([0.5, 0.25])


def test_a_ceiling_says_what_read(models, monkeypatch):
    factory = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"), say=lambda line: None)
    assert factory.ceiling().reader == "torch or own kernel"
    monkeypatch.setattr(bandwidth.kernels, "load", no_compiler)
    assert factory.ceiling().reader == "torch"
