"""The limit that memory sets: what is counted, and the share of it."""

from statistics import median

import pytest
import torch
from builders import generation, manifest
from comparisons import PROFILE
from rich.console import Console
from stores import stored
from transformers import MixtralConfig, MixtralForCausalLM

from specbench.api import CloudModel, EdgeModel
from specbench.benchmark.answering import Answering
from specbench.benchmark.ceiling import CeilingWatch, decoding_ms
from specbench.engine import bandwidth
from specbench.errors import CloudLostError, SpecbenchError
from specbench.models.gguf_files import GgufHeader, StoredTensor
from specbench.profile import CloudSpec, EdgeSpec
from specbench.render.results import comparison_table
from specbench.results.ceilings import Ceiling, Reading
from specbench.results.records import Round, Run
from specbench.stats.comparison import compare
from specbench.testing import tiny_llama


def no_compiler():
    raise SpecbenchError("there is none")


def weights_of(folder):
    return CloudModel(CloudSpec(model=str(folder), device="cpu")).engine.loaded.model


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
        edge = EdgeModel(EdgeSpec(model=str(folder), quantization=kind))
        shares[kind] = bandwidth.weight_bytes(edge.engine.loaded.model) / plain
    assert 0.25 < shares["int8"] < 0.4
    assert 0.15 < shares["int4"] < shares["int8"]


def test_of_a_mixture_of_experts_those_that_a_token_chooses_are_read():
    config = MixtralConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=32, num_local_experts=4, num_experts_per_tok=1,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    experts = sum(weights.nbytes for weights in model.model.layers[0].mlp.experts.parameters())
    everything = sum(weights.nbytes for weights in model.parameters()) - model.model.embed_tokens.weight.nbytes
    assert bandwidth.weight_bytes(model) == everything - experts * 3 // 4
    model.config.num_experts_per_tok = 0
    assert bandwidth.weight_bytes(model) is None


@pytest.mark.parametrize(("known", "read"), [({"expert_used_count": 2}, 10 + 80 * 2 // 8), ({}, None)])
def test_of_the_experts_of_a_gguf_file_those_that_a_token_chooses_are_read(known, read):
    class Header(GgufHeader):
        def own(self, key, default=None):
            return {"expert_count": 8, **known}.get(key, default)

    sizes = {
        "output.weight": 7,
        "token_embd.weight": 99,
        "blk.0.attn_q.weight": 3,
        "blk.0.ffn_up_exps.weight": 80,
    }
    tensors = tuple(StoredTensor(name, "F32", (1,), size) for name, size in sizes.items())
    assert Header((), tensors).weight_bytes == read


def test_reads_are_of_the_models_own_size_so_that_caches_help_both_alike():
    for rows in (1, 7, 300):
        reader = bandwidth.MemoryReader("cpu", rows * bandwidth.ROW * 4)
        assert reader.bytes_per_second() > 0
        assert reader.read_bytes == rows * bandwidth.ROW * 4


def test_memory_is_measured_anew_each_time_and_later_by_the_faster_reader_alone(monkeypatch):
    times = iter([*[3.0] * bandwidth.FIRST_READS, *[2.0] * bandwidth.FIRST_READS, *[4.0, 5.0] * 2])
    monkeypatch.setattr(bandwidth, "_seconds", lambda reader, place: next(times))
    reader = bandwidth.MemoryReader("cpu", 1 << 20)
    assert [reader.bytes_per_second() for _ in range(3)] == [(1 << 20) / 2, (1 << 20) / 4, (1 << 20) / 4]
    assert next(times, None) is None
    held = [value for value in vars(reader).values() if isinstance(value, torch.Tensor)]
    assert held == [], "no method pays for the buffer with its memory"


def test_the_share_is_the_rate_over_the_limit():
    ceiling = Ceiling(weight_bytes=500, bytes_per_second=50_000)
    assert ceiling.tokens_per_second == 100
    assert ceiling.share(20.0) == pytest.approx(0.5)
    assert ceiling.share(None) is None
    assert Ceiling(None, 50_000).share(20.0) is None


def test_the_ceiling_of_a_loaded_model(tmp_path):
    cloud = CloudModel(CloudSpec(model=str(tiny_llama(tmp_path / "m", seed=3)), device="cpu"))
    ceiling = cloud.ceiling()
    assert ceiling.weight_bytes == bandwidth.weight_bytes(cloud.engine.loaded.model)
    assert 0 <= ceiling.weight_bytes - ceiling.read_bytes < bandwidth.ROW * 4
    assert ceiling.tokens_per_second > 0
    assert decoding_ms(cloud, 48) > 0


def test_limits_prints_each_model_with_its_share(specbench, profile):
    done = specbench("limits", "--profile", profile(), "--json")
    assert done.code == 0
    for role in ("edge", "cloud"):
        row = done.json["models"][role]
        assert row["ceiling_tokens_per_second"] == pytest.approx(row["bytes_per_second"] / row["weight_bytes"])
        assert row["share"] == pytest.approx(row["tokens_per_second"] / row["ceiling_tokens_per_second"])
        slower, faster = row["bytes_per_second_range"]
        assert slower <= row["bytes_per_second"] <= faster
        assert row["fault"] is None
    assert "ceiling" in specbench("limits", "--profile", profile()).out


def test_reading_takes_no_more_than_a_part_of_the_memory_that_is_left(monkeypatch):
    sizes = []
    monkeypatch.setattr(bandwidth, "free_bytes", lambda device: 4 << 20)
    monkeypatch.setattr(
        bandwidth, "_seconds", lambda reader, place: sizes.append(reader.__self__.nbytes) or 1.0
    )
    monkeypatch.setattr(bandwidth.kernels, "load", no_compiler)
    assert bandwidth.MemoryReader("cpu", 1 << 24).bytes_per_second() == 1 << 20
    assert set(sizes) == {1 << 20}


def test_reading_takes_no_more_than_a_part_of_what_the_edge_is_limited_to(monkeypatch):
    monkeypatch.setattr(bandwidth.confinement, "free_bytes", lambda: 4 << 20)
    sizes = []
    monkeypatch.setattr(
        bandwidth, "_seconds", lambda reader, place: sizes.append(reader.__self__.nbytes) or 1.0
    )
    monkeypatch.setattr(bandwidth.kernels, "load", no_compiler)
    assert bandwidth.MemoryReader("cpu", 1 << 24).bytes_per_second() == 1 << 20
    assert set(sizes) == {1 << 20}


def test_a_run_keeps_the_ceiling_of_each_model_and_shows_every_methods_share_of_it(
    specbench, profile, tmp_path
):
    done = specbench("run", "speculative", "edge_baseline", "--profile", profile(), "--json")
    assert done.code == 0
    for row in done.json["methods"].values():
        slowest, fastest = row["ceiling_range"]
        assert 0 < slowest <= row["ceiling_tokens_per_second"] <= fastest
        assert 0 < row["share_of_ceiling"] < 1
        assert row["ceiling_fault"] is None
    edge, cloud = (done.json["methods"][name] for name in ("edge_baseline", "speculative"))
    ceilings = stored(tmp_path).manifest.ceilings
    assert ceilings["edge"].weight_bytes < ceilings["cloud"].weight_bytes  # it has fewer layers
    for row, role in ((edge, "edge"), (cloud, "cloud")):
        assert row["ceiling_tokens_per_second"] == pytest.approx(ceilings[role].tokens_per_second)
    table = specbench("compare", "--details").out
    assert f"{cloud['share_of_ceiling']:.1%}" in table
    assert "share of" in table


def test_memory_is_read_beside_each_prompt_and_the_readings_are_kept(specbench, profile, tmp_path, monkeypatch):
    order, look, answer = [], CeilingWatch.look, Answering.run
    monkeypatch.setattr(CeilingWatch, "look", lambda *args: (order.append(args[1]), look(*args))[1])
    monkeypatch.setattr(Answering, "run", lambda *args: (order.append("answer"), answer(*args))[1])
    done = specbench("run", "speculative", "--profile", profile(workload={"repeats": 2, "warmup": 0}), "--json")
    assert done.code == 0, done.err
    kept = stored(tmp_path)
    asked = list(dict.fromkeys((each.prompt_id, each.repeat) for each in kept.generations))
    for role, ceiling in kept.manifest.ceilings.items():
        assert [(each.prompt_id, each.repeat) for each in ceiling.readings] == asked, role
        speeds = [each.bytes_per_second for each in ceiling.readings]
        assert ceiling.bytes_per_second == median(speeds)
        assert len(set(speeds)) > 1, "each is a measurement of its own"
    assert order[0] != "answer", "before the methods are asked"


def read_at(*speeds, weight_bytes=5):
    return Ceiling(
        weight_bytes,
        median(speeds),
        readings=tuple(Reading(str(index), 0, speed) for index, speed in enumerate(speeds)),
    )


def shown(ceiling, method="m", lossless=True, **fields):
    """A row of a run of three prompts, 10 ms a token, on memory that was read so."""
    records = tuple(generation(str(index), method=method, **fields) for index in range(3))
    made = Run(
        manifest(
            profile=PROFILE,
            ceilings={"cloud": ceiling, "edge": ceiling},
            methods=(method,),
            lossless={method: lossless},
        ),
        records,
    )
    return compare([made])


def test_each_request_is_held_against_the_speed_of_memory_beside_its_prompt():
    (row,) = shown(read_at(1000.0, 2000.0, 4000.0)).methods
    assert row.share_of_ceiling == pytest.approx(100 / 400)  # of 100 / 200, 100 / 400 and 100 / 800
    assert row.ceiling_range == (200.0, 800.0)
    assert row.ceiling_tokens_per_second == 400


def test_a_share_above_all_of_it_is_a_fault_of_the_measurement_token_by_token():
    found = shown(read_at(400.0, 420.0, 430.0), lossless=None)
    (row,) = found.methods
    assert row.share_of_ceiling == pytest.approx(100 / 84)
    assert "measurement error: m reached 119% of the memory ceiling" in row.ceiling_fault
    assert row.ceiling_fault in found.notes
    console = Console(width=100, record=True)
    console.print(comparison_table(found, details=True))
    assert "fault" in console.export_text().partition("119.0%")[2].partition("note:")[0]
    several = tuple(Round(tokens=(1, 2), drafted=1, accepted=1) for _ in range(3))
    assert shown(read_at(400.0, 420.0, 430.0), rounds=several).methods[0].ceiling_fault is None
    assert shown(read_at(1000.0, 1000.0)).methods[0].ceiling_fault is None


def test_limits_says_that_a_share_above_all_of_it_is_a_fault(specbench, profile, monkeypatch):
    monkeypatch.setattr(bandwidth, "_seconds", lambda reader, place: 1.0)
    assert "measurement error: the edge reached" in specbench("limits", "--profile", profile()).out
    row = specbench("limits", "--profile", profile(), "--json").json["models"]["edge"]
    assert "measurement error" in row["fault"]


def test_memory_that_drifts_is_told_with_its_range():
    notes = " ".join(shown(read_at(24e9, 30e9, 34e9)).notes)
    assert "memory of the cloud in run r1 gave 24.0 to 34.0 GB/s in 3 readings, median 30.0 GB/s" in notes
    assert "GB/s" not in " ".join(shown(read_at(30e9, 30.1e9, 30.2e9)).notes)


def test_memory_of_a_cloud_elsewhere_is_told_to_have_been_measured_once():
    elsewhere = {**PROFILE, "cloud": {**PROFILE["cloud"], "placement": "process"}}
    run = Run(manifest(profile=elsewhere, ceilings={"cloud": Ceiling(5, 1e3)}), (generation(method="m"),))
    assert "memory of the cloud in run r1 was measured once" in " ".join(compare([run]).notes)


def test_no_run_ends_because_memory_cannot_be_read_once_more(models, monkeypatch):
    factory = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    watch = CeilingWatch([factory], {})
    ends = iter([CloudLostError("gone"), MemoryError(), ValueError("odd")])

    def ended(reader, place):
        raise next(ends)

    monkeypatch.setattr(bandwidth, "_seconds", ended)
    for prompt_id in ("a", "b"):
        watch.look(prompt_id, 0)
    assert watch.found["cloud"].readings == ()
    with pytest.raises(ValueError, match="odd"):
        watch.look("1", 0)


def test_a_run_that_is_resumed_keeps_the_readings_of_its_earlier_sitting(models):
    factory = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    factory.load()
    watch = CeilingWatch([factory], {})
    watch.look("1", 0)
    watch.look("1", 0)  # of the next method
    watch = CeilingWatch([factory], watch.found)
    watch.look("2", 0)
    assert [each.prompt_id for each in watch.found["cloud"].readings] == ["1", "2"]


def test_runs_stored_before_the_ceiling_was_measured_have_no_share():
    record = generation(method="m")
    new, old = (
        Run(manifest(profile=PROFILE, ceilings=known), (record,)) for known in ({"cloud": Ceiling(5, 1e3)}, {})
    )
    assert compare([new]).methods[0].share_of_ceiling == pytest.approx(1000 / 10 / 200)
    row = compare([old]).methods[0]
    assert (row.ceiling_tokens_per_second, row.share_of_ceiling) == (None, None)
    comparison_table(compare([old]), details=True)


def test_runs_that_measured_another_bandwidth_are_compared():
    runs = [
        Run(manifest(name, profile=PROFILE, ceilings={"cloud": Ceiling(5, speed)}), (generation(method="m"),))
        for name, speed in (("r1", 1e3), ("r2", 2e3))
    ]
    assert [row.share_of_ceiling for row in compare(runs).methods] == pytest.approx([0.5, 0.25])


def test_a_ceiling_says_what_read(models, monkeypatch):
    spec = CloudSpec(model=str(models / "target"), device="cpu")
    assert CloudModel(spec).ceiling().reader == "torch or own kernel"
    monkeypatch.setattr(bandwidth.kernels, "load", no_compiler)
    assert CloudModel(spec).ceiling().reader == "torch"
