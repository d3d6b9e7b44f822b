"""What stored runs say about their precision: on manifests made by hand."""

import dataclasses

import pytest
from builders import manifest

from specbench.precision import between_findings, run_findings, switches, verdict
from specbench.precision.findings import Finding
from specbench.results.records import Audit, SwitchChange, TensorGroup

PROFILE = {"precision": {"parity": "edge_cloud", "allow_tf32": False}}
SWITCHES = {"torch.backends.cudnn.conv.fp32_precision": "ieee", "torch.backends.cudnn.allow_tf32": False}


def audit(role="cloud", dtype="float32", **fields):
    group = (TensorGroup(dtype, 3, 12, "first.weight"),)
    values = {
        "role": role, "model": "m", "device": "cpu", "declared": dtype, "vocabulary_size": 9,
        "parameters": group, "buffers": (), "logits": dtype, "cache": group, "stored": ("F32 x3",),
        "attention": "sdpa",
    }  # fmt: skip
    return Audit(**{**values, **fields})


def run(run_id="r1", audits=None, **fields):
    audits = (audit(),) if audits is None else audits
    values = {"profile": PROFILE, "audits": audits, "audits_at_end": audits}
    values["switches"] = {"start": SWITCHES, "end": SWITCHES}
    return manifest(run_id, **{**values, **fields})


def test_a_full_audit_that_agrees_is_ok():
    assert run_findings(run()) == []


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"audits": ()}, "audits"),
        ({"audits": (audit(attention=None),)}, "cloud: audit"),
        ({"audits_at_end": ()}, "audits at the end"),
        ({"switches": {}}, "switches at the start"),
        ({"switches": {"start": SWITCHES}}, "switches at the end"),
    ],
)
def test_whatever_was_not_recorded_is_unknown(fields, subject):
    found = run_findings(run(**fields))
    assert verdict(found) == "unknown"
    assert subject in [finding.subject for finding in found]


def test_the_first_switch_and_who_flipped_it_are_named_and_all_flips_decide_what_mends_it():
    changes = (
        SwitchChange("torch.backends.cudnn.conv.fp32_precision", "ieee", "tf32", "liar", "7"),
        SwitchChange("torch.backends.cudnn.allow_tf32", False, switches.UNREADABLE, "liar", "7"),
    )
    first, _ = run_findings(run(switch_changes=changes, methods=("liar", "control")))
    assert first.message == (
        "torch.backends.cudnn.conv.fp32_precision was ieee at the start of the run and is tf32 since liar "
        "answered prompt 7"
    )
    assert first.settings == ("precision.allow_tf32=true",)
    looser = SwitchChange("torch.get_float32_matmul_precision()", "highest", "medium", "liar", "7")
    first, *_ = run_findings(run(switch_changes=(*changes, looser), methods=("liar", "control")))
    assert first.mend(["run", "liar", "--profile", "p"], ["control"]) == "specbench run control --profile p"


def test_a_problem_that_is_only_kept_in_words_is_not_lost():
    (finding,) = run_findings(run(precision_problems=("cloud: gone wrong",)))
    assert (finding.verdict, finding.message) == ("differs", "cloud: gone wrong")


def test_runs_that_differ_are_told_apart_role_by_role():
    mixed = (TensorGroup("float32", 2, 8, "first.weight"), TensorGroup("bfloat16", 1, 2, "odd.weight"))
    other = run("r2", audits=(audit("edge", "bfloat16"), audit(parameters=mixed, attention="eager")))
    subjects = [finding.subject for finding in between_findings(run(), other)]
    assert subjects == ["cloud: odd.weight", "cloud: attention"], "an edge that one run lacks is no difference"
    assert between_findings(run(), run("r2")) == []


@pytest.mark.parametrize(
    ("dtype", "is_weight", "verdicts"), [("int64", False, []), ("int8", True, ["differs"])]
)
def test_integers_are_precision_where_they_are_weights_alone(dtype, is_weight, verdicts):
    tables, more = TensorGroup("float32", 2, 8, "inv_freq"), TensorGroup(dtype, 1, 8, "more")
    earlier = audit(buffers=(tables,))
    later = audit(buffers=(tables, more), integers=(more,) if is_weight else ())
    found = run_findings(run(audits=(earlier,), audits_at_end=(later,)))
    assert [finding.verdict for finding in found] == verdicts


def test_another_model_with_other_counts_of_the_same_kinds_is_no_difference_in_precision():
    larger = audit(
        model="n", parameters=(TensorGroup("float32", 30, 120, "other.weight"),), stored=("F32 x30",)
    )
    assert between_findings(run(), run("r2", audits=(larger,))) == []
    narrow = dataclasses.replace(larger, stored=("BF16 x30",))
    profile = {**PROFILE, "cloud": {"model": "m"}}
    (finding,) = between_findings(run(profile=profile), run("r2", audits=(narrow,)))
    assert (finding.subject, finding.settings) == ("cloud: stored", ("cloud.model=m",))


def test_a_command_keeps_its_other_methods_when_one_is_left_out():
    finding = Finding("differs", "x", "x", method="liar")
    assert finding.mend(["run", "liar", "other"], ["other"]) == "specbench run other"


def test_a_draft_in_the_cloud_is_held_against_itself_and_the_cloud_and_not_against_the_edge():
    here, there = audit("edge"), audit("edge", attention="eager", device="cuda:0")
    assert run_findings(run(audits=(here, audit(), there))) == []
    changed = (here, audit(), dataclasses.replace(there, attention="sdpa"))
    (finding,) = run_findings(run(audits=(here, audit(), there), audits_at_end=changed))
    assert finding.message == "edge: attention was eager at the start of the run and is sdpa at its end"
    for edges in ((here, audit("edge", "bfloat16")), (audit("edge", "bfloat16"), here)):
        (finding,) = run_findings(run(audits=(audit(), *edges)))
        assert "the edge is bfloat16" in finding.message
