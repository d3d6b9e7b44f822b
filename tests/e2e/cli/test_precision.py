"""`check-dtype` and the audit of a run, end to end: who lies is named, and the offered command mends it."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbench.audit import switches
from specbench.bench.store import RunStore

PLUGIN = """
import torch
from specbench.api import AutoregressiveDecoder, Method, Round, hookimpl

class Liar(Method):
    name, summary, roles = "liar", "changes the arithmetic", ("cloud",)
    api_version = 4

    def precision_changes(self, options):
        return {declared}

    def open(self, edge, cloud, options):
        model = cloud.engine.loaded.model
        {at_open}

        class Lies(AutoregressiveDecoder):
            answers = 0

            def generate(self, request):
                self.answers += 1
                if self.answers == 4:
                    {half_way}
                yield from super().generate(request)

        return Lies(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Liar()
"""


@pytest.fixture
def liar(tmp_path):
    def write(declared="{}", at_open="pass", half_way="pass"):
        path = tmp_path / "liar.py"
        path.write_text(PLUGIN.format(declared=declared, at_open=at_open, half_way=half_way))
        return path

    return write


def stored(tmp_path):
    store = RunStore(tmp_path / "runs")
    return store.read(store.find(None)).manifest


@pytest.fixture(autouse=True)
def _leave_the_process_exact():
    yield
    switches.configure(allow_tf32=False)
    torch.set_autocast_enabled("cpu", False)


def offered(specbench, finding):
    """Run the command that a finding offers."""
    words = shlex.split(finding["mend"])
    assert words[0] == "specbench"
    return specbench(*words[1:])


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
    assert finding["message"] == "cloud.dtype is float32, and liar makes it bfloat16 by its own options"
    assert offered(specbench, finding).code == 0
    refused = specbench("run", "liar", "--profile", path, "--plugin", plugin)
    assert refused.code == 1
    assert "liar makes it bfloat16" in refused.err
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
    assert done.json["profiles"][0]["notes"] == ["nothing is demanded (precision.parity: off)"]


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


def test_an_environment_that_loosens_the_arithmetic_differs_and_the_offered_command_unsets_it(
    specbench_process, profile
):
    command = ["check-dtype", "--profile", profile(), "--load", "--json"]
    done = specbench_process(*command, ONEDNN_DEFAULT_FPMATH_MODE="BF16")
    assert done.code == 1
    (finding,) = done.json["profiles"][0]["findings"]
    assert finding["mend"].startswith("env -u ONEDNN_DEFAULT_FPMATH_MODE specbench check-dtype")
    python = f"{sys.executable} -c 'from specbench.cli import main; main()'"
    typed = finding["mend"].replace("specbench check-dtype", f"{python} check-dtype")
    environment = {**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}
    assert (
        subprocess.run(["bash", "-c", typed], env=environment, capture_output=True, timeout=120).returncode == 0
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
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, timeout=120)
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


def test_a_run_keeps_its_audit_and_a_stored_run_is_judged_by_it(specbench, profile, tmp_path):
    assert specbench("run", "speculative", "--profile", profile()).code == 0
    manifest = stored(tmp_path)
    assert set(manifest.switches) == {"start", "end"}
    assert manifest.switches["start"] == manifest.switches["end"]
    assert [audit.role for audit in manifest.audits] == ["edge", "cloud"]
    assert manifest.audits_at_end == manifest.audits
    assert manifest.precision_problems == ()
    done = specbench("check-dtype", "--run", manifest.run_id, "--json")
    assert (done.code, done.json["verdict"]) == (0, "ok")
    assert done.json["runs"][0]["audits"][1]["logits"] == "float32"
    assert "verdict: ok" in specbench("check-dtype", "--run", manifest.run_id).out


@pytest.mark.parametrize(
    ("at_open", "reason"),
    [
        ("model.register_buffer('scale', torch.ones(2, dtype=torch.float16))", "scale is float16"),
        ("torch.backends.cuda.matmul.allow_tf32 = True", "matmul"),
        ("torch.set_autocast_enabled('cpu', True)", "is bfloat16, declared is float32"),
        ("model.model.layers[0].mlp.up_proj.bfloat16()", "cannot run a forward pass"),
    ],
)
def test_a_pair_that_fails_its_audit_is_not_timed(specbench, profile, liar, tmp_path, at_open, reason):
    done = specbench("run", "liar", "--profile", profile(), "--plugin", liar(at_open=at_open))
    assert done.code == 1, done.err
    assert reason in done.err
    assert not list((tmp_path / "runs").glob("*/manifest.json"))


def test_tf32_that_a_plugin_switches_on_half_way_fails_the_run_at_its_end(
    specbench, specbench_process, profile, liar, tmp_path
):
    plugin, path = liar(half_way="torch.backends.cuda.matmul.allow_tf32 = True"), profile()
    done = specbench_process("run", "liar", "--profile", path, "--plugin", plugin)
    assert done.code == 1, done.err
    assert "precision of run" in done.out
    manifest = stored(tmp_path)
    assert manifest.status == "failed"
    assert len(RunStore(tmp_path / "runs").read(manifest.run_id).generations) == 8, "results are kept"
    change = manifest.switch_changes[0]
    assert change.method == "liar"
    assert "allow_tf32" in " ".join(change.switch for change in manifest.switch_changes)
    assert change.switch in manifest.precision_problems[0]
    assert "since liar answered prompt" in manifest.precision_problems[0]
    shown = " ".join(specbench("compare").out.split())
    assert "matmul" in shown
    assert "at the start of the run and is" in shown
    judged = specbench("check-dtype", "--run", manifest.run_id, "--json")
    assert (judged.code, judged.json["verdict"]) == (1, "differs")
    assert judged.json["runs"][0]["findings"][0]["subject"] == change.switch
    mend = judged.json["runs"][0]["findings"][0]["mend"]
    assert "--set precision.allow_tf32=true" in mend
    assert offered(specbench, judged.json["runs"][0]["findings"][0]).code == 0


def test_arithmetic_that_is_loosened_only_while_a_method_answers_is_seen_too(
    specbench, profile, liar, tmp_path
):
    """Autocast that is left before the run ends: start and end agree, and what lay between did not."""
    plugin = liar(half_way="torch.set_autocast_enabled('cpu', True)")
    text = plugin.read_text()
    plugin.write_text(text.replace("super().generate(request)", "super().generate(request)\n"
                                   "                torch.set_autocast_enabled('cpu', False)"))  # fmt: skip
    done = specbench("run", "liar", "--profile", profile(), "--plugin", plugin)
    assert done.code == 1, done.err
    manifest = stored(tmp_path)
    assert manifest.switches["start"] == manifest.switches["end"]
    assert [change.switch for change in manifest.switch_changes] == ["torch.is_autocast_enabled('cpu')"]
    judged = specbench("check-dtype", "--run", manifest.run_id, "--json")
    mend = judged.json["runs"][0]["findings"][0]["mend"]
    assert "liar" not in shlex.split(mend)
    assert offered(specbench, judged.json["runs"][0]["findings"][0]).code == 0


def test_positions_and_masks_that_a_model_keeps_for_itself_are_no_change_of_precision(
    specbench, profile, liar, tmp_path
):
    """`generate` of a Qwen2.5-Omni leaves `rope_deltas` on the model, which are positions."""
    kept = "model.rope_deltas, model.seen = torch.zeros(1, 1).long(), torch.ones(2, 2).bool()"
    done = specbench("run", "liar", "--profile", profile(), "--plugin", liar(half_way=kept))
    assert done.code == 0, done.err
    assert stored(tmp_path).precision_problems == ()
    assert "int64" in [group.dtype for group in stored(tmp_path).audits_at_end[0].buffers], "it is shown"


def test_a_tensor_that_is_cast_half_way_fails_the_run_at_its_end(specbench, profile, liar, tmp_path):
    cast = "cloud.engine.loaded.model.register_buffer('late', torch.ones(2, dtype=torch.bfloat16))"
    done = specbench("run", "liar", "--profile", profile(), "--plugin", liar(half_way=cast))
    assert done.code == 1, done.err
    (problem,) = stored(tmp_path).precision_problems
    assert problem == "cloud: late is bfloat16, declared is float32 (1 tensors differ), at the end of the run"


def test_where_nothing_is_demanded_a_flipped_switch_is_a_label_alone(specbench, profile, liar, tmp_path):
    plugin = liar(half_way="torch.backends.cuda.matmul.allow_tf32 = True")
    path = profile(precision={"parity": "off"})
    done = specbench("run", "liar", "--profile", path, "--plugin", plugin)
    assert done.code == 0, done.err
    assert "precision was not checked" in done.out
    assert stored(tmp_path).precision_problems
    assert stored(tmp_path).status == "finished"


def test_a_failed_run_stays_failed_when_it_is_resumed(specbench, profile, liar, tmp_path):
    plugin, path = liar(half_way="torch.backends.cuda.matmul.allow_tf32 = True"), profile()
    command = ["run", "liar", "--profile", path, "--plugin", plugin]
    specbench(*command)
    problems = stored(tmp_path).precision_problems
    done = specbench(*command, "--resume", stored(tmp_path).run_id)
    assert done.code == 1, done.err
    assert stored(tmp_path).precision_problems[: len(problems)] == problems
    assert stored(tmp_path).status == "failed"


def test_an_int4_draft_beside_a_whole_target_would_be_said_to_be_fair(specbench, profile):
    """Two precisions, each the same across methods: `per_role` lets them pass, and says so."""
    path = profile(precision={"parity": "per_role"}, edge={"dtype": "bfloat16"})
    done = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert (done.code, done.json["verdict"]) == (0, "ok")
    notes = done.json["profiles"][0]["notes"]
    assert "edge is bfloat16 and cloud is float32: fair, since precision.parity is per_role" in notes


@pytest.fixture
def damaged(models, tmp_path):
    """The tiny target, with one weight that is no number."""
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
