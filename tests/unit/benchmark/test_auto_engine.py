"""`engine.kind: auto`: compiled where that can be, all models at once, and the record says what really ran."""

import json
import os
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import warm
from comparisons import run

from specbench.benchmark.differences import differences
from specbench.cloud import CloudModel
from specbench.cloud.served import Served
from specbench.cloud.server_matches_profile import demand_meant
from specbench.engine import kernels
from specbench.errors import SpecbenchError
from specbench.models import loading
from specbench.models.embedded import cache_folder
from specbench.profile import CloudSpec, EngineSpec

AUTO = {"engine": {"kind": "auto"}, "workload": {"limit": 1, "max_new_tokens": 8, "warmup": 0}}
ON_A_MACHINE_WITHOUT_A_COMPILER = {"CXX": "no-compiler-of-this-name"}


@pytest.fixture
def recorded(tmp_path):
    """The manifest of the only run."""

    def read():
        (file,) = (tmp_path / "runs").glob("*/manifest.json")
        return json.loads(file.read_text())

    return read


@pytest.mark.slow
def test_both_models_are_compiled_at_once_and_not_a_second_time(
    specbench, profile, recorded, tmp_path, monkeypatch
):
    kernels.load()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "kernels").symlink_to(cache_folder() / "kernels")
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "cache"))
    done = specbench("run", "speculative", "--profile", profile(**AUTO))
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert "compiling the edge and the cloud models: a minute or two, once" in said
    assert said.count("compiling") == 1  # neither model had to do it again by itself
    for role in ("edge", "cloud"):
        assert f"the {role} model runs compiled passes (engine.kind: auto)" in said
    assert recorded()["engines"] == {"edge": "compiled", "cloud": "compiled"}
    assert len(list((tmp_path / "cache" / "compiled").glob("*.pt2"))) == 2
    again = specbench("run", "speculative", "--profile", profile(**AUTO))
    assert again.code == 0
    assert "compiling" not in again.err


def test_without_a_compiler_both_models_run_eagerly_and_a_line_says_why(profile, recorded, tmp_path):
    words = ["run", "speculative", "--profile", str(profile(**AUTO))]
    environment = {**os.environ, **ON_A_MACHINE_WITHOUT_A_COMPILER, "SPECBENCH_RUNS": str(tmp_path / "runs")}
    done = warm.run(
        [sys.executable, "-m", "specbench", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    for role in ("edge", "cloud"):
        assert f"the {role} model runs eagerly, for it cannot be compiled: no C++ compiler found" in said
    assert recorded()["engines"] == {"edge": "eager", "cloud": "eager"}
    assert "eager engine" in done.stdout


@pytest.mark.parametrize("method", ["hf_assisted", "early_exit"])
def test_a_method_that_needs_eager_passes_makes_its_run_eager_and_a_line_says_so(
    specbench, profile, recorded, method
):
    done = specbench("run", method, "--profile", profile(**AUTO))
    assert done.code == 0, done.err
    line = f"the models run eagerly, because {method} needs transformers' own passes (engine.kind: auto)"
    assert line in " ".join(done.err.split())
    assert set(recorded()["engines"].values()) == {"eager"}


def test_on_a_gpu_the_line_says_why_and_how_to_compile_all_the_same(models, monkeypatch, logged):
    read = loading.load_model
    elsewhere = torch.device("meta")  # stands for whatever is no CPU
    monkeypatch.setattr(loading, "load_model", lambda *words: replace(read(*words), device=elsewhere))
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"), EngineSpec(kind="auto"))
    assert cloud.begin() is None
    (line,) = (line for line in logged.messages if "eagerly" in line)
    assert "captured anew at every start; --set engine.kind=compiled does it" in line


def test_runs_are_compared_by_the_engines_that_ran():
    def of(asked, *ran):
        engines = dict(zip(("cloud", "edge"), ran, strict=False))
        return run((), engines=engines, profile={"engine": {"kind": asked}}).manifest

    def named(left, right):
        return [name for name, _, _ in differences(left, right)]

    assert named(of("auto", "compiled", "compiled"), of("compiled", "compiled", "compiled")) == []
    assert named(of("auto", "eager"), of("compiled", "eager", "eager")) == []
    assert named(of("auto", "eager"), of("auto", "compiled")) == ["the cloud's engine"]
    assert named(of("auto"), of("eager")) == ["engine.kind"]  # a run that has not begun yet


@pytest.mark.parametrize(
    ("here", "asked", "ran", "fits"),
    [
        ("auto", "auto", "eager", True),
        ("auto", "compiled", "compiled", True),
        ("compiled", "auto", "compiled", True),
        ("compiled", "auto", "eager", False),
        ("eager", "auto", "eager", True),
        ("eager", "compiled", "compiled", False),
    ],
)
def test_a_server_is_held_to_the_engine_that_the_profile_names(models, monkeypatch, here, asked, ran, fits):
    spec = CloudSpec(model=str(models / "target"), device="cpu")
    cloud = CloudModel(spec)
    monkeypatch.setattr(type(cloud.engine), "kind", ran)
    cloud.engine_spec = EngineSpec(kind=asked)
    facts = Served(cloud).facts
    refusal = pytest.raises(SpecbenchError, match=rf"engine\.kind is {here} here, {ran} there")
    with nullcontext() if fits else refusal:
        demand_meant(facts, spec, EngineSpec(kind=here), models / "target")
