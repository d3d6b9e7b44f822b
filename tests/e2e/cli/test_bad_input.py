"""Bad input gets one clear error with a hint and its exit status, before anything is timed."""

import json
import shutil

import pytest
from builders import tiny

from specbench.errors import ExitCode


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), RuntimeError("[...] can't allocate memory")]
)
def test_a_machine_with_too_little_memory_is_no_fault_of_specbench(specbench, profile, monkeypatch, error):
    def full(*arguments):
        raise error

    monkeypatch.setattr("specbench.cloud.EdgeModel.ceiling", full)
    done = specbench("limits", "--profile", profile())
    assert done.code == ExitCode.MODEL
    assert "out of memory" in done.err
    assert "memory_optimized" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (
            ["run", "speculativ"],
            ExitCode.USAGE,
            "there is no method 'speculativ'",
            "did you mean 'speculative'?",
        ),
        (["run"], ExitCode.USAGE, "missing argument", ""),
        (["run", "speculative", "--profile", "defalt"], ExitCode.PROFILE, "no profile 'defalt'", "'default'"),
        (
            ["run", "speculative", "--set", "cloud.dtyp=x"],
            ExitCode.USAGE,
            "no key 'cloud.dtyp'",
            "'cloud.dtype'",
        ),
        (["run", "speculative", "--limit", "0"], ExitCode.USAGE, "invalid value for '--limit'", ""),
        (["run", "speculative", "--max-new-tokens", "-4"], ExitCode.USAGE, "'--max-new-tokens'", ""),
        (["run", "speculative", "--set", "workload.limit=0"], ExitCode.PROFILE, "limit: 0 is refused", ""),
        (["run", "speculative", "--limit", "many"], ExitCode.USAGE, "invalid value for '--limit'", ""),
        (["run", "speculative", "--set", "speculative.draft_length=0"], ExitCode.PROFILE, "0 is refused", ""),
        (
            ["run", "speculative", "--prompts", "nowhere.jsonl"],
            ExitCode.USAGE,
            "nowhere.jsonl cannot be read",
            "",
        ),
        (
            ["run", "speculative", "--plugin", "nowhere.py"],
            ExitCode.USAGE,
            "nowhere.py does not exist",
            "",
        ),
        (["run", "speculative", "--resume", "nothing"], ExitCode.STORE, "there is no run 'nothing'", ""),
        (["compare", "nothing"], ExitCode.STORE, "there is no run 'nothing'", ""),
        (["compare"], ExitCode.STORE, "there are no runs", "specbench run speculative"),
        (["profiles", "show", "x"], ExitCode.PROFILE, "no profile 'x'", ""),
        (["models", "pull", "x"], ExitCode.MODEL, "no embedded model 'x'", ""),
        (["submit", "run"], ExitCode.USAGE, "missing argument 'METHOD'", "specbench plugins"),
        (["check-dtype", "--all", "--profile", "typo"], ExitCode.USAGE, "--profile has no effect", "--all"),
        (["check-dtype", "--run", "x", "--plugin", "y"], ExitCode.USAGE, "stored runs", "--plugin"),
        (
            ["sweep", "speculative", "--over", "link.rtt=0,20"],
            ExitCode.USAGE,
            "error: the profile has no key 'link.rtt'",
            "'link.rtt_ms'",
        ),
        (["limits", "--costs", "nowhere/costs.yaml"], ExitCode.STORE, "cannot be written", ""),
        (["plan", "--acceptance", "0.8", "--step-ms", "-1"], ExitCode.USAGE, "step_ms", ""),
        (["nonsense"], ExitCode.USAGE, "nonsense", ""),
        (
            ["run", "speculative", "--set", "decoding.temperature=1"],
            ExitCode.USAGE,
            "temperature: 0, not 1",
            "--set",
        ),
    ],
)
def test_bad_input_gets_one_clear_error(specbench, profile, arguments, code, message, hint):
    if arguments[:2] == ["run", "speculative"] and "--profile" not in arguments:
        arguments = [*arguments, "--profile", profile()]
    done = specbench(*arguments)
    assert done.code == code, done.err
    said = " ".join(done.err.replace("│", " ").split())
    assert message in said
    assert hint in said
    assert "Traceback" not in done.err
    assert done.out == ""


def damaged(models, tmp_path, **changes):
    folder = shutil.copytree(models / "target", tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_a_pair_of_different_vocabularies_is_refused(specbench, profile, models, tmp_path):
    folder = shutil.copytree(models / "draft", tmp_path / "other")
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer.replace('"a"', '"ä"', 1))
    done = specbench("run", "speculative", "--profile", profile(edge={"model": str(folder)}))
    assert done.code == ExitCode.MODEL
    assert "edge and cloud have different vocabularies" in done.err
    assert not (tmp_path / "runs").exists()


def test_a_prompt_longer_than_the_context_is_refused_before_anything_is_timed(
    specbench, profile, models, tmp_path
):
    folder = damaged(models, tmp_path, max_position_embeddings=40)
    done = specbench("run", "speculative", "--profile", profile(cloud={"model": str(folder)}))
    assert done.code == ExitCode.USAGE
    assert "prompt 1 has" in done.err
    assert "does not fit the context of 40" in done.err
    assert not (tmp_path / "runs").exists()


COUNTS_PASSES = """class Own(Base):
    passes = 0

    def forward(self, input_ids=None, **arguments):
        output = super().forward(input_ids=input_ids, **arguments)
        Own.passes += arguments.get("use_cache") is True
        output.logits[..., 7] += Own.passes
        return output
"""


def test_a_model_whose_cache_cannot_be_rolled_back_is_refused(specbench, profile, tmp_path):
    edge = {"model": str(tiny(tmp_path / "m", "llama", COUNTS_PASSES)), "trust_remote_code": True}
    done = specbench("run", "speculative", "--profile", profile(edge=edge))
    assert done.code == ExitCode.MODEL, done.err
    assert "cannot be rolled back" in done.err
    assert not list((tmp_path / "runs").glob("*/manifest.json")), "an empty run would hide earlier ones"


def test_a_pair_that_needs_more_memory_than_there_is_hints_at_memory_optimized(
    specbench, profile, models, tmp_path
):
    folder = damaged(models, tmp_path, hidden_size=65536, intermediate_size=1048576, num_hidden_layers=2)
    done = specbench("run", "cloud_baseline", "--profile", profile(cloud={"model": str(folder)}))
    assert done.code == ExitCode.MODEL, done.err
    assert "GB are free" in done.err
    assert "memory_optimized" in done.err
