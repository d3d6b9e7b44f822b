"""A target that is split over ranks: what it says, and what becomes of it when a rank is lost."""

import contextlib
import gc
import os
import signal
import subprocess
import sys

import pytest
import yaml
from builders import tiny_mistral
from split_models import REQUEST, tokens_of, whole
from waiting import is_running, wait_until

from specbench.cloud import CloudModel
from specbench.cloud.server.serving import served_profile
from specbench.cloud.split import SplitCloudModel
from specbench.engine import ranks
from specbench.errors import RanksLostError, SpecbenchError
from specbench.models.placement import rank_bytes
from specbench.profile import CloudSpec, Decoding
from specbench.profile.loading import load_profile
from specbench.testing import tiny_llama

SAMPLED = Decoding(temperature=0.9)


@contextlib.contextmanager
def split(folder, tensor=2, **fields):
    spec = CloudSpec(model=str(folder), device="cpu", parallel={"tensor": tensor}, **fields)
    cloud = SplitCloudModel(spec)
    try:
        yield cloud
    finally:
        cloud.close()


def logits_of(cloud):
    """Of passes of many widths, behind a cache that is cut back in between."""
    session = cloud.engine.session()
    found = [session.prefill(range(10, 40)), session.extend([7, 8, 9, 10]), session.extend([11])]
    session.truncate(31)
    found += [session.extend([50, 51]), session.extend([52])]
    session.truncate(0)
    return [*found, session.prefill([60, 61, 62])]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-5), pytest.param("float64", 1e-12, marks=pytest.mark.slow)]
)
def test_two_ranks_agree_with_one_process(models, dtype, tolerance):
    alone = whole(models / "target", dtype=dtype)
    with split(models / "target", dtype=dtype) as cloud:
        apart = [float((a - b).abs().max()) for a, b in zip(logits_of(alone), logits_of(cloud), strict=True)]
        assert max(apart) < tolerance
        for decoding in (Decoding(), SAMPLED):
            assert tokens_of(cloud.generate(REQUEST, decoding)) == tokens_of(alone.generate(REQUEST, decoding))
        audit, before = cloud.audit(), alone.audit()
        assert "the other ranks have no copy of" in cloud.engine.tree_obstacle
    assert (audit.ranks, audit.declared, audit.problem) == (2, dtype, None)
    norms = sum(p.nbytes for name, p in alone.engine.loaded.model.named_parameters() if "norm" in name)
    assert audit.parameters[0].bytes == before.parameters[0].bytes + norms  # which every rank has
    assert rank_bytes(alone.config, dtype, 2) * 2 == audit.parameters[0].bytes  # as was estimated
    assert audit.cache == before.cache


@pytest.mark.slow
def test_a_sliding_window_is_rolled_back_on_every_rank(tmp_path):
    folder = tiny_mistral(tmp_path / "m", window=8)
    alone = whole(folder, dtype="float64")
    with split(folder, dtype="float64") as cloud:
        for ours, theirs in zip(logits_of(alone), logits_of(cloud), strict=True):
            assert float((ours - theirs).abs().max()) < 1e-12


@pytest.mark.slow
def test_widths_that_do_not_divide_are_split_unevenly(tmp_path):
    folder = tiny_llama(tmp_path / "m", seed=3, intermediate_size=67, vocab_size=97, num_attention_heads=4,
                        num_key_value_heads=4)  # fmt: skip
    alone = whole(folder, dtype="float64")
    with split(folder, tensor=4, dtype="float64") as cloud:
        assert cloud.audit().ranks == 4
        for ours, theirs in zip(logits_of(alone), logits_of(cloud), strict=True):
            assert float((ours - theirs).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("heads", "tensor", "field"),
    [((9, 3), 2, "num_attention_heads is 9"), ((4, 1), 2, "num_key_value_heads is 1")],
)
def test_heads_that_do_not_divide_are_refused_before_anything_starts(tmp_path, heads, tensor, field):
    folder = tiny_llama(tmp_path / "m", seed=3, hidden_size=72, num_attention_heads=heads[0],
                        num_key_value_heads=heads[1])  # fmt: skip
    (folder / "model.safetensors").write_bytes(b"no weights")
    with split(folder, tensor) as cloud, pytest.raises(SpecbenchError, match=field) as refused:
        cloud.load()
    assert cloud.processes is None
    assert refused.value.exit_code == 4
    if heads == (9, 3):
        assert "cloud.parallel.tensor=3 divides them" in refused.value.hint


def test_a_model_without_a_plan_for_its_attention_is_refused(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    from specbench.testing import tiny_tokenizer

    GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=32, n_layer=1, n_head=4)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with split(tmp_path) as cloud, pytest.raises(SpecbenchError, match="no plan for the attention of gpt2"):
        cloud.load()


def test_one_process_cannot_be_two_ranks(models):
    with pytest.raises(SpecbenchError, match="needs a process per rank") as refused:
        CloudModel(CloudSpec(model=str(models / "target"), parallel={"tensor": 2}))
    assert "cloud.placement=process" in refused.value.hint


@pytest.mark.slow
def test_a_rank_frees_a_cache_when_rank_0_does(models, monkeypatch):
    with split(models / "target") as cloud:
        orders = []
        tell = cloud.ranks.tell
        monkeypatch.setattr(cloud.ranks, "tell", lambda order: (orders.append(order), tell(order)))
        session = cloud.engine.session()
        session.extend([5, 6])
        slot = orders[-1].slot
        del session
        gc.collect()
        assert orders[-1].slots == (slot,)


def test_a_cache_that_outlives_its_model_is_freed_without_a_word(models, monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with split(models / "target") as cloud:
        session = cloud.engine.session()
        session.prefill([10, 11, 12])
    del session
    gc.collect()
    assert ignored == []


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_pass_in_bounded_time(models, monkeypatch):
    monkeypatch.setattr(ranks, "PASS_S", 3.0)
    with split(models / "target") as cloud:
        session = cloud.engine.session()
        session.extend([5, 6])
        os.kill(cloud.processes.pids[0], signal.SIGSTOP)
        with pytest.raises(RanksLostError, match="a pass over 2 ranks failed"):
            session.extend([7])
        with pytest.raises(RanksLostError, match="a pass over 2 ranks failed"):
            cloud.engine.session().extend([7])
    assert not is_running(cloud.processes.pids[0])


@pytest.mark.slow
def test_ranks_that_still_load_are_ended_and_not_told(models, monkeypatch):
    with split(models / "target") as cloud:
        orders = []
        monkeypatch.setattr(cloud.ranks, "tell", orders.append)  # it would wait until they listen
        cloud.close()
        assert orders == []
        assert not is_running(cloud.processes.pids[0])


@pytest.mark.slow
def test_what_was_started_ends_when_rank_0_is_killed(models):
    script = f"""
import os, signal
from specbench.profile import CloudSpec
from specbench.cloud.split import SplitCloudModel
cloud = SplitCloudModel(CloudSpec(model={str(models / "target")!r}, device="cpu", parallel={{"tensor": 2}}))
cloud.load()
print(cloud.processes.pids[0], cloud.processes.meeting_point, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid, meeting_point = done.stdout.split()
    wait_until(lambda: not is_running(int(pid)) and not os.path.exists(os.path.dirname(meeting_point)))


@pytest.mark.slow
def test_check_dtype_tells_the_ranks_without_and_with_loading(specbench, profile):
    path = profile(cloud={"placement": "process", "parallel": {"tensor": 2}})
    declared = specbench("check-dtype", "--profile", path)
    assert declared.code == 0
    assert "float32 on cpu, 2 ranks" in declared.out
    loaded = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert loaded.code == 0, loaded.err
    (report,) = loaded.json["profiles"]
    assert [audit["ranks"] for audit in report["audits"]] == [1, 2]
    assert report["methods"][0]["cloud"]["ranks"] == 2


def test_ranks_divide_the_processors_that_they_may_use(tmp_path, monkeypatch):
    path = tmp_path / "p.yaml"
    cloud = {"model": "a", "placement": "process", "parallel": {"tensor": 2}, "device": "cpu"}
    path.write_text(yaml.safe_dump({"edge": {"model": "a"}, "cloud": cloud}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    assert served_profile(load_profile(str(path))).cloud.threads == 3


def test_a_device_map_and_ranks_contradict_each_other(tmp_path):
    path = tmp_path / "p.yaml"
    both = {"model": "a", "placement": "process", "parallel": {"tensor": 2}, "device_map": "auto"}
    path.write_text(yaml.safe_dump({"edge": {"model": "a"}, "cloud": both}))
    with pytest.raises(SpecbenchError, match="both say where the weights go"):
        load_profile(str(path))
