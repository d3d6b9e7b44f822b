"""`check-dtype` and the audit of a run, end to end: who lies is named, and the offered command mends it."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
import warm
from audited import offered
from safetensors.torch import load_file, save_file


def test_all_profiles_and_methods_are_shown_when_none_is_named(specbench):
    done = specbench("check-dtype", "--json")
    assert (done.code, done.json["verdict"]) == (0, "ok")
    names = {report["profile"] for report in done.json["profiles"]}
    assert names >= {"default", "memory_optimized", "qwen2_5", "qwen2_5_omni"}
    assert all(len(report["methods"]) >= 4 for report in done.json["profiles"])


def test_where_the_weights_are_to_lie_is_shown_before_anything_is_loaded(specbench, profile):
    mapped = profile(cloud={"device": "auto", "device_map": "auto", "max_memory": {"cpu": "8GiB"}})
    split = profile("split", cloud={"placement": "process", "parallel": {"tensor": 2}})
    told = [specbench("check-dtype", "--profile", path, "--json") for path in (mapped, split)]
    clouds = [done.json["profiles"][0]["methods"][0]["cloud"] for done in told]
    assert [(each["device"], each["ranks"]) for each in clouds] == [("device map auto", 1), ("cpu", 2)]
    assert "device map auto" in specbench("check-dtype", "--profile", mapped).out


def test_a_method_whose_options_change_its_precision_is_shown_and_refused(specbench, profile, liar, tmp_path):
    plugin, path = liar(declared='{"cloud": "bfloat16"}'), profile()
    done = specbench("check-dtype", "--profile", path, "--plugin", plugin, "--json")
    assert done.code == 1
    (report,) = done.json["profiles"]
    (row,) = [row for row in report["methods"] if row["verdict"] != "ok"]
    assert (row["method"], row["changes"], row["verdict"]) == ("liar", {"cloud": "bfloat16"}, "differs")
    (finding,) = report["findings"]
    assert finding["message"] == "cloud.dtype is float32, but liar changes it to bfloat16 by its own options"
    assert offered(specbench, finding).code == 0
    refused = specbench("run", "liar", "--profile", path, "--plugin", plugin)
    assert refused.code == 1
    assert "liar changes it to bfloat16" in refused.err
    assert not (tmp_path / "runs").exists()


def test_a_plugin_that_cannot_say_what_it_changes_is_unknown(specbench, profile, liar):
    plugin = liar(declared="1 / 0")
    done = specbench("check-dtype", "--profile", profile(), "--plugin", plugin, "--json")
    assert (done.code, done.json["verdict"]) == (1, "unknown")
    assert "liar cannot say" in done.json["profiles"][0]["findings"][0]["message"]


def test_nothing_demanded_is_labelled_and_never_called_ok(specbench, profile):
    path = profile(precision={"parity": "off"}, edge={"dtype": "bfloat16"})
    done = specbench("check-dtype", "--profile", path, "--json")
    assert (done.code, done.json["verdict"]) == (0, "unknown")
    assert done.json["profiles"][0]["notes"] == ["precision is not checked (precision.parity: off)"]


def test_the_command_that_is_offered_mends_a_pair_of_two_dtypes(specbench, profile):
    path = profile(cloud={"dtype": "bfloat16"})
    done = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert done.code == 1, done.err
    findings = done.json["profiles"][0]["findings"]
    assert "cloud: model.embed_tokens.weight" in [finding["subject"] for finding in findings]
    for finding in findings:
        assert offered(specbench, finding).code == 0


def test_load_reports_switches_as_found_and_as_set_and_where_weights_come_from(specbench_process, profile):
    done = specbench_process("check-dtype", "--profile", profile(), "--load", "--json")
    assert done.code == 0, done.err
    (report,) = done.json["profiles"]
    if hasattr(torch.backends, "fp32_precision"):
        conv = "torch.backends.cudnn.conv.fp32_precision"
        assert [report["switches"][moment][conv] for moment in ("found", "start", "end")] == [
            "tf32",
            "ieee",
            "ieee",
        ]
    assert report["switches"]["start"]["torch.backends.cudnn.allow_tf32"] is False
    assert report["audits"][1]["attention"] == "sdpa"
    allowed = specbench_process(
        "check-dtype", "--profile", profile(), "--load", "--json", "--set", "precision.allow_tf32=true"
    )
    assert allowed.code == 0
    assert allowed.json["profiles"][0]["switches"]["start"]["torch.backends.cuda.matmul.allow_tf32"] is True
    assert "float32 may be computed as TF32" in allowed.json["profiles"][0]["notes"][-1]


@pytest.mark.slow
def test_an_environment_that_loosens_the_arithmetic_differs_and_the_offered_command_unsets_it(
    specbench_process, profile
):
    command = ["check-dtype", "--profile", profile(), "--load", "--json"]
    done = specbench_process(*command, is_started=True, ONEDNN_DEFAULT_FPMATH_MODE="BF16")
    assert done.code == 1
    (finding,) = done.json["profiles"][0]["findings"]
    assert finding["mend"].startswith("env -u ONEDNN_DEFAULT_FPMATH_MODE specbench check-dtype")
    python = f"{sys.executable} -c 'from specbench.cli import main; main()'"
    typed = finding["mend"].replace("specbench check-dtype", f"{python} check-dtype")
    environment = {**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}
    assert (
        subprocess.run(["bash", "-c", typed], env=environment, capture_output=True, timeout=300).returncode == 0
    )


def test_a_pickled_checkpoint_is_unknown_and_the_offered_command_converts_it(
    specbench, profile, models, tmp_path
):
    from safetensors.torch import load_file

    folder = shutil.copytree(models / "target", tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    path = profile(cloud={"model": str(folder)})
    done = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert (done.code, done.json["verdict"]) == (1, "unknown"), done.err
    (finding,) = done.json["profiles"][0]["findings"]
    assert finding["subject"] == "cloud: pytorch_model.bin"
    words = shlex.split(finding["mend"])
    warm.run([sys.executable, *words[1:]], check=True, capture_output=True, timeout=300)
    mended = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert mended.json["profiles"][0]["audits"][1]["stored"] == ["F32 x21"]


def test_a_quantised_checkpoint_without_its_library_is_one_clear_error(specbench, profile, models, tmp_path):
    folder = shutil.copytree(models / "target", tmp_path / "quantised")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    done = specbench("check-dtype", "--profile", profile(cloud={"model": str(folder)}), "--load")
    assert done.code == 4
    assert "requires optimum" in done.err


def test_a_model_that_is_not_there_is_the_users_error(specbench, profile, tmp_path):
    done = specbench("check-dtype", "--profile", profile(cloud={"model": str(tmp_path / "none")}), "--load")
    assert done.code == 4
    assert "does not exist" in done.err


def test_an_int4_draft_beside_a_whole_target_would_be_said_to_be_fair(specbench, profile):
    """Two precisions, each the same across methods: `per_role` lets them pass, and says so."""
    path = profile(precision={"parity": "per_role"}, edge={"dtype": "bfloat16"})
    done = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert (done.code, done.json["verdict"]) == (0, "ok")
    notes = done.json["profiles"][0]["notes"]
    assert "edge is bfloat16 and cloud is float32: allowed by precision.parity: per_role" in notes


@pytest.fixture
def damaged(models, tmp_path):
    """The tiny target, with one weight that is not a number."""
    folder = tmp_path / "damaged"
    shutil.copytree(models / "target", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return {"model": str(folder), "device": "cpu"}


def test_check_dtype_finds_a_model_that_computes_no_numbers(specbench, profile, damaged):
    done = specbench("check-dtype", "--profile", profile(cloud=damaged), "--load", "--json")
    assert (done.code, done.json["verdict"]) == (1, "differs")
    (finding,) = done.json["profiles"][0]["findings"]
    assert finding["message"].startswith("cloud: logits are not finite (nan)")
    assert "model.layers.0.mlp.down_proj.weight" in finding["message"]


def test_a_run_on_such_a_model_ends_with_the_role_and_without_a_verdict(specbench, profile, damaged):
    done = specbench("run", "speculative", "edge_baseline", "--profile", profile(cloud=damaged), "--json")
    assert done.code == 7
    assert "failed: speculative: the cloud model's logits are not finite (nan)" in done.err
    assert list(done.json["methods"]) == ["edge_baseline"], "what is sound is measured"
    assert done.json["methods"]["edge_baseline"]["verdict"] is None
