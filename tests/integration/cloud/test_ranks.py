"""A target that is split over ranks: what it says, and what becomes of it when a rank is lost."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from builders import tiny_mistral

from specbench.cli.serve import _served
from specbench.cloud import CloudModel
from specbench.cloud.split import SplitCloudModel
from specbench.engine import ranks
from specbench.errors import RanksLostError, SpecbenchError
from specbench.models.placement import rank_bytes
from specbench.profile import CloudSpec, Decoding, Options, Speculative
from specbench.profile.loading import load_profile
from specbench.speculation.request import Request
from specbench.testing import tiny_llama

GREEDY = Options(Decoding(), Speculative())
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SAMPLED = Decoding(temperature=0.9)
REQUEST = Request(tuple(range(10, 40)), 16, frozenset(), 5)


@contextlib.contextmanager
def split(folder, tensor=2, **fields):
    spec = CloudSpec(model=str(folder), device="cpu", parallel={"tensor": tensor}, **fields)
    cloud = SplitCloudModel(spec)
    try:
        yield cloud
    finally:
        cloud.close()


def whole(folder, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", **fields))


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def logits_of(cloud):
    """Of passes of many widths, behind a cache that is cut back in between."""
    session = cloud.engine.session()
    found = [session.prefill(range(10, 40)), session.extend([7, 8, 9, 10]), session.extend([11])]
    session.truncate(31)
    found += [session.extend([50, 51]), session.extend([52])]
    session.truncate(0)
    return [*found, session.prefill([60, 61, 62])]


def tokens_of(commits):
    return [token for commit in commits for token in commit.tokens]


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
    with pytest.raises(SpecbenchError, match="starts a process for each rank") as refused:
        CloudModel(CloudSpec(model=str(models / "target"), parallel={"tensor": 2}))
    assert "cloud.placement=process" in refused.value.hint


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


@contextlib.contextmanager
def serving(models, *launcher):
    """`specbench serve` on two ranks, and what it says on stderr."""
    profile = models / "two_ranks.yaml"
    cloud = {"model": str(models / "target"), "device": "cpu", "parallel": {"tensor": 2}}
    profile.write_text(yaml.safe_dump({"edge": {"model": str(models / "draft")}, "cloud": cloud}))
    words = [*(launcher or [sys.executable]), "-m", "specbench", "serve", "--profile", profile, "--port", "0"]
    process = subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def there(models, address, **fields):
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement=address, **fields)
    return CloudModel(spec)


def rank_1(process):
    import psutil

    return psutil.Process(process.pid).children()[0].pid


@pytest.mark.slow
def test_torchrun_may_start_the_ranks(models):
    alone = tokens_of(whole(models / "target").generate(REQUEST, Decoding()))
    with serving(models, *TORCHRUN) as (_, address):
        cloud = there(models, address, parallel={"tensor": 2})
        target = cloud.target(GREEDY)
        assert tokens_of([target.begin(REQUEST), *target.decode()]) == alone
        assert (cloud.connection.facts.ranks, cloud.connection.facts.engine) == (2, "eager")
        assert cloud.ceiling().tokens_per_second is None  # ranks share the reading
        cloud.close()


@pytest.mark.slow
def test_an_edge_that_means_another_number_of_ranks_is_told_so(models):
    with serving(models) as (_, address), pytest.raises(SpecbenchError, match=r"tensor is 1 here and 2 there"):
        there(models, address).load()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["in a text", "between texts"])
def test_a_rank_that_is_killed_ends_the_sessions_with_a_reason_and_the_server_with_an_exit_code(
    models, moment, logged
):
    reason = "rank 1 of 2 was killed by signal 9"
    with serving(models) as (process, address):
        cloud = there(models, address, parallel={"tensor": 2})
        target = cloud.target(GREEDY)
        target.begin(REQUEST)
        if moment == "in a text":
            stream = target.decode()
            next(stream)
        os.kill(rank_1(process), signal.SIGKILL)
        assert process.wait(60) == 7
        assert f"error: {reason}" in process.stderr.read()
        cloud.connection._whole_patience_s = cloud.connection._patience_s = 0.2
        with pytest.raises(SpecbenchError, match="could not reconnect"):
            tokens_of(stream if moment == "in a text" else target.decode())
        assert any(reason in line for line in logged.messages), logged.messages


@pytest.mark.slow
def test_edges_are_told_when_torchrun_ends_the_ranks_since_one_was_killed(models, logged):
    import psutil

    with serving(models, *TORCHRUN) as (process, address):
        cloud = there(models, address, parallel={"tensor": 2})
        target = cloud.target(GREEDY)
        target.begin(REQUEST)
        children = psutil.Process(process.pid).children()
        (killed,) = [each for each in children if each.environ().get("RANK") == "1"]
        killed.kill()
        assert process.wait(60)
        assert "error: torchrun ended this rank" in process.stderr.read()
        cloud.connection._whole_patience_s = cloud.connection._patience_s = 0.2
        with pytest.raises(SpecbenchError, match="could not reconnect"):
            tokens_of(target.decode())
        assert any("torchrun ended this rank" in line for line in logged.messages), logged.messages


KILLER = """
import os, signal
from pathlib import Path
import psutil
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.api import Method, hookimpl

FIRED = Path({fired!r})

class Killer(SpeculativeDecoding):
    name, summary = "killer", "speculative, of whose target a rank is killed in the second answer"
    answers = 0

    def open(self, edge, cloud, options):
        decoder = super().open(edge, cloud, options)
        generate = decoder.generate

        def killing(request):
            Killer.answers += 1
            for index, part in enumerate(generate(request)):
                yield part
                if Killer.answers >= 2 and index == 2 and not FIRED.exists():
                    FIRED.write_text("killed")
                    os.kill(psutil.Process(cloud.process.pid).children()[0].pid, signal.SIGKILL)

        decoder.generate = killing
        return decoder

@hookimpl
def specbench_method() -> Method:
    return Killer()
"""


@pytest.mark.slow
def test_a_run_whose_target_loses_a_rank_starts_it_again_and_says_the_same(specbench, profile, tmp_path):
    plugin = tmp_path / "killer.py"
    plugin.write_text(KILLER.format(fired=str(tmp_path / "fired")))
    path = profile(cloud={"placement": "process", "parallel": {"tensor": 2}}, engine={"kind": "compiled"})
    done = specbench("run", "killer", "speculative", "--profile", path, "--plugin", plugin)
    assert done.code == 0, done.err
    assert "rank 1 of 2 was killed by signal 9" in done.err
    run = max((tmp_path / "runs").iterdir())
    manifest = json.loads((run / "manifest.json").read_text())
    rows = [json.loads(line) for line in (run / "generations.jsonl").read_text().splitlines()]
    texts = [
        {(g["prompt_id"], g["turn"]): g["text"] for g in rows if g["method"] == method}
        for method in ("killer", "speculative")
    ]
    assert texts[0] == texts[1]
    assert any(g["interrupted"] for g in rows)
    assert manifest["profile"]["cloud"]["parallel"] == {"tensor": 2}
    assert {a["role"]: a["ranks"] for a in manifest["audits"]} == {"edge": 1, "cloud": 2}
    assert manifest["engines"]["cloud"] == "eager"  # a split model is not compiled, and the record says so


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
    assert _served(load_profile(str(path))).cloud.threads == 3


def test_a_device_map_and_ranks_contradict_each_other(tmp_path):
    path = tmp_path / "p.yaml"
    both = {"model": "a", "placement": "process", "parallel": {"tensor": 2}, "device_map": "auto"}
    path.write_text(yaml.safe_dump({"edge": {"model": "a"}, "cloud": both}))
    with pytest.raises(SpecbenchError, match="both say where the weights go"):
        load_profile(str(path))
