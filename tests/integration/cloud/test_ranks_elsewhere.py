"""A split target behind a server: who starts its ranks, and what edges hear when one is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml
from split_models import GREEDY, REQUEST, tokens_of, whole

from specbench.cloud import CloudModel
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@contextlib.contextmanager
def serving(models, *launcher):
    """`specbench serve` on two ranks, and what it says on stderr."""
    profile = models / "two_ranks.yaml"
    cloud = {"model": str(models / "target"), "device": "cpu", "parallel": {"tensor": 2}}
    edge, engine = {"model": str(models / "draft")}, {"kind": "eager"}
    profile.write_text(yaml.safe_dump({"edge": edge, "cloud": cloud, "engine": engine}))
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
        assert (cloud.connection.facts.profile.ranks, cloud.connection.facts.engine) == (2, "eager")
        assert cloud.ceiling().tokens_per_second is None  # ranks share the reading
        cloud.close()


@pytest.mark.slow
def test_an_edge_that_means_another_number_of_ranks_is_told_so(models):
    with serving(models) as (_, address), pytest.raises(SpecbenchError, match=r"tensor is 1 here, 2 there"):
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
