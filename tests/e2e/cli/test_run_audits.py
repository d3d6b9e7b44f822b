"""Runs are audited at their start, at every answer and at their end; who changed the arithmetic is named."""

import shlex

import pytest
from audited import offered, stored

from specbench.results.store import RunStore


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
