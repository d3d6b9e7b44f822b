"""Tiny real models, profiles on them, and a command line that runs in this process."""

import functools
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main
import warm
import yaml
from builders import Outcome
from documented import undocumented

from specbench.benchmark import child_process
from specbench.cloud import rank_processes, server_process
from specbench.engine.threads import spin_briefly
from specbench.testing import tiny_llama

os.environ["COLUMNS"] = "200"  # tables are asked for words, wherever lines would break
# Two workers share the processors, and tiny models only lose by a second thread. Both come before torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
spin_briefly()
gc.set_threshold(100_000, 20, 20)  # replays make so many small records that looking for garbage took an eighth

NEEDS = {"browser": "browser", "namespaces": "root", "slurm": "slurm"}
"""By the fixture that provides what not every machine has: the marker of the tests that ask for it."""


def pytest_itemcollected(item):
    for fixture, marker in NEEDS.items():
        if fixture in item.fixturenames:
            item.add_marker(marker)


@pytest.fixture(scope="module", autouse=True)
def _leave_no_garbage_to_the_next_file():
    """And have later collections look only at what the file makes, not at a million objects of torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def two_threads():
    """Compute with a team of two, for what divides its work between threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def logged(caplog):
    """What specbench logs, from INFO on: `logged.messages`."""
    caplog.set_level("INFO", "specbench")
    return caplog


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A target of two layers, a draft of one, in Hugging Face format."""
    folder = tmp_path_factory.mktemp("models")
    tiny_llama(folder / "target", seed=2)
    tiny_llama(folder / "draft", seed=1, num_hidden_layers=1)
    return folder


@pytest.fixture
def profile(models, tmp_path):
    """Write a profile on the tiny pair; keyword arguments replace whole parts."""

    def write(name="tiny", **parts):
        values = {
            "edge": {"model": str(models / "draft")},
            "cloud": {"model": str(models / "target"), "device": "cpu"},
            "engine": {"kind": "eager"},  # what compiles says so, for it takes a while
            "workload": {"prompts": str(prompts_file(tmp_path)), "limit": 3, "max_new_tokens": 12},
        }
        for part, value in parts.items():
            values[part] = {**values.get(part, {}), **value} if isinstance(value, dict) else value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def prompts_file(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    rows = [
        {"question_id": 1, "category": "talk", "turns": ["hello there", "and now?"]},
        {"question_id": 2, "category": "sums", "turns": ["what is 12 + 30?"]},
        {"question_id": 3, "category": "talk", "turns": ["tell me a story"]},
        {"question_id": 4, "category": "sums", "turns": ["7 * 8 = "]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def replayed(tmp_path):
    """A trace and a cost table in files: the words by which `specbench replay` takes them."""
    from replays import costs, trace

    from specbench.forecast.acceptance_trace import write_trace
    from specbench.profile.cost_table import write_costs

    write_trace(tmp_path / "t.json", trace())
    write_costs(tmp_path / "c.yaml", costs())
    return tmp_path / "t.json", "--costs", tmp_path / "c.yaml"


def described(arguments, outcome):
    """What a command left, whose JSON is documented to the last key."""
    words = tuple(map(str, arguments))
    if "--json" in words and outcome.out.startswith("{"):
        assert undocumented(words, outcome.json) == []
    return outcome


@pytest.fixture(scope="session")
def made_once():
    """What commands in this process share: typer's commands of the app, and the memory of a configuration."""
    from specbench.models import memory

    make, measure = functools.cache(typer.main.get_command), memory.estimate
    known = {}

    def estimate(config, *rest):
        key = config.to_json_string(), rest
        if key not in known:
            known[key] = measure(config, *rest)
        return known[key]

    return (typer.main, "get_command", make), (memory, "estimate", estimate)


@pytest.fixture
def specbench(monkeypatch, capfd, tmp_path, made_once):
    """Run a command in this process; runs go to a temporary folder."""
    monkeypatch.setenv("SPECBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no test's files outlive a power failure
    for shared in made_once:
        monkeypatch.setattr(*shared)
    from specbench.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["specbench", *map(str, arguments)])
        capfd.readouterr()
        # A run looks for garbage and for models at every answer, as if the process were its own: among the
        # million objects of a test's process that took half of its time. It thaws them at its end.
        gc.freeze()
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capfd.readouterr()
        return described(arguments, Outcome(code, captured.out, captured.err))

    return call


@pytest.fixture(scope="session", autouse=True)
def _warm_processes():
    """Conditions of sweeps, and servers of our own, are forked instead of started: see `warm`."""
    warmed = SimpleNamespace(**{**vars(subprocess), "Popen": warm.WarmPopen})
    with pytest.MonkeyPatch.context() as patch:
        for module in (child_process, rank_processes, server_process):
            patch.setattr(module, "subprocess", warmed)
        yield


@pytest.fixture
def specbench_process(tmp_path):
    """Run a command in a process of its own, which is forked; or started, where the start is what matters."""

    def call(*arguments, is_started=False, **environment):
        done = (subprocess.run if is_started else warm.run)(
            [sys.executable, "-c", "from specbench.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "SPECBENCH_RUNS": str(tmp_path / "runs"), **environment},
            timeout=300,
        )
        return described(arguments, Outcome(done.returncode, done.stdout, done.stderr))

    return call
