"""Runs whose cloud is killed: it comes back, or it does not, and what the profile says of that."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from warm import WarmPopen

KILLER = """
import os, signal
from pathlib import Path
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.api import Method, hookimpl

FIRED = Path({fired!r})

class Killer(SpeculativeDecoding):
    name, summary = "killer", "speculative, whose cloud is killed in an answer behind the third"
    answers = 0

    def open(self, edge, cloud, options):
        decoder = super().open(edge, cloud, options)
        generate = decoder.generate

        def killing(request):
            Killer.answers += 1
            for part in generate(request):
                yield part
                goes_on = part.tokens[-1] not in request.stop_ids
                if Killer.answers >= 4 and goes_on and not FIRED.exists():
                    FIRED.write_text("killed")
                    os.kill({pid}, signal.SIGKILL)

        decoder.generate = killing
        return decoder

@hookimpl
def specbench_method() -> Method:
    return Killer()
"""


@pytest.fixture
def killer(tmp_path):
    """A plugin that kills the cloud, once; `fired` is there when it has."""

    def write(pid):
        path = tmp_path / "killer.py"
        path.write_text(KILLER.format(fired=str(tmp_path / "fired"), pid=pid))
        return path

    return write


@pytest.fixture
def server(profile, tmp_path):
    running = []

    def start(port=0):
        words = ["serve", "--profile", str(profile(name="served")), "--port", str(port)]
        process = WarmPopen(
            [sys.executable, "-m", "specbench", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        running.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def short_patience(monkeypatch):
    from specbench.cloud.transport import connection

    monkeypatch.setattr(connection, "PATIENCE_S", 0.5)


def stored(tmp_path):
    run = max((tmp_path / "runs").iterdir())
    lines = (run / "generations.jsonl").read_text().splitlines()
    return run.name, json.loads((run / "manifest.json").read_text()), [json.loads(line) for line in lines]


def texts(generations, method):
    return {(g["prompt_id"], g["turn"]): g["text"] for g in generations if g["method"] == method}


def test_a_killed_process_is_started_again_and_the_answer_is_the_same(specbench, profile, killer, tmp_path):
    plugin = killer("cloud.process.pid")
    path = profile(cloud={"placement": "process"})
    done = specbench("run", "killer", "speculative", "--profile", path, "--plugin", plugin)
    assert done.code == 0, done.err
    assert (tmp_path / "fired").exists()
    _, manifest, generations = stored(tmp_path)
    assert texts(generations, "killer") == texts(generations, "speculative")
    disturbed = [index for index, g in enumerate(generations) if g["interrupted"]]
    behind = {g["method"]: index for index, g in reversed([*enumerate(generations)]) if index >= disturbed[0]}
    assert generations[disturbed[0]]["method"] == "killer"
    assert disturbed == sorted(behind.values())  # the first answer of every method opens its text anew
    assert "interrupted by a lost cloud" in done.out
    assert manifest["status"] == "finished"


@pytest.mark.slow
def test_with_the_cloud_gone_for_good_the_run_ends_with_what_it_has_and_can_go_on(
    specbench, profile, killer, server, short_patience, tmp_path
):
    process, address = server()
    path = profile(cloud={"placement": address})
    words = ("run", "killer", "--profile", path, "--plugin", killer(process.pid))
    ended = specbench(*words)
    assert (tmp_path / "fired").exists()
    assert ended.code == 7
    assert "could not reconnect" in ended.err
    run, manifest, before = stored(tmp_path)
    assert manifest["status"] == "interrupted"
    assert before
    server(port=address.rpartition(":")[2])
    resumed = specbench(*words, "--resume", run)
    assert resumed.code == 0, resumed.err
    _, manifest, generations = stored(tmp_path)
    assert generations[: len(before)] == before
    assert texts(generations, "killer") == texts(generations, "cloud_optimized_baseline")


@pytest.mark.parametrize(
    "placed", ["at an address", pytest.param("in a process of ours", marks=pytest.mark.slow)]
)
def test_edge_only_finishes_on_the_draft_and_is_labelled_lossy(
    specbench, profile, models, killer, server, short_patience, tmp_path, placed
):
    if placed == "at an address":
        process, address = server()
        cloud, plugin = {"placement": address}, killer(process.pid)
    else:
        folder = shutil.copytree(models / "target", tmp_path / "target")
        cloud = {"placement": "process", "model": str(folder)}
        # With its weights away it does not start again.
        plugin = killer(f"[cloud.process.pid, Path({str(folder)!r}, 'model.safetensors').unlink()][0]")
    path = profile(cloud={**cloud, "on_cloud_loss": "edge_only"})
    done = specbench("run", "killer", "--profile", path, "--plugin", plugin)
    assert (tmp_path / "fired").exists()
    assert done.code == 7, done.err
    _, manifest, found = stored(tmp_path)
    assert manifest["lossless"]["killer"] is False
    assert [failure["method"] for failure in manifest["failures"]] == ["cloud_optimized_baseline"]
    generations = [g for g in found if g["method"] == "killer"]
    assert len({g["prompt_id"] for g in generations}) == 3
    alone = [g for g in generations if any(part["unverified"] for part in g["rounds"])]
    assert alone
    assert all(g["interrupted"] for g in alone)


@pytest.mark.slow
def test_wait_waits_until_the_cloud_is_back(specbench, profile, server, short_patience, tmp_path, killer):
    process, address = server()
    path = profile(cloud={"placement": address, "on_cloud_loss": "wait"})
    environment = {**os.environ, "SPECBENCH_RUNS": str(tmp_path / "runs")}
    words = ["run", "killer", "--profile", str(path), "--plugin", str(killer(process.pid))]
    run = WarmPopen(
        [sys.executable, "-m", "specbench", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.wait(120) == -signal.SIGKILL
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(2)
    server(port=address.rpartition(":")[2])
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    _, _, generations = stored(tmp_path)
    assert texts(generations, "killer") == texts(generations, "cloud_optimized_baseline")


@pytest.mark.slow
def test_a_full_disk_on_the_edge_ends_the_run_and_the_clouds_process_with_it(profile, tmp_path):
    script = f"""
import resource, sys
from specbench.cli import main
from specbench.cloud import server_process as process
started = process.CloudProcess.__init__
def note(self, *arguments, **options):
    started(self, *arguments, **options)
    print("cloud", self.pid, file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
process.CloudProcess.__init__ = note
sys.argv = ["specbench", "run", "speculative", "--profile", {str(profile(cloud={"placement": "process"}))!r}]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "SPECBENCH_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 5, done.stderr
    assert "cannot be written" in done.stderr
    pid = int(next(line.split()[1] for line in done.stderr.splitlines() if line.startswith("cloud ")))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
