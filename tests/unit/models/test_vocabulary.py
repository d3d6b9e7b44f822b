"""Drafts with a vocabulary of their own: what they read, what they can say, and maps that are refused."""

import json

import pytest
import torch
from builders import PLAIN, mapped_draft

from specbench.api import CloudModel, EdgeModel, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.precision import audit_model
from specbench.profile import CloudSpec
from specbench.testing import tiny_llama, tiny_tokenizer


@pytest.fixture
def cloud(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))


@pytest.fixture
def edge(tmp_path, cloud):
    return mapped_draft(tmp_path / "draft", cloud, size=30)


def changed(edge, **fields):
    path = edge.folder / "vocab_map.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return EdgeModel(edge.spec)


def test_a_token_that_the_draft_cannot_say_is_never_proposed(edge):
    drafter = edge.drafter(PLAIN)
    for token in range(20, 60):
        drafter.begin(Request((token, token + 1), 8, frozenset()))
        drafter.commit([token + 2], 0)
        assert all(drafted % 3 == 2 and drafted < 90 for drafted in drafter.propose(8).tokens)


def test_its_logits_stand_at_the_targets_ids_and_nowhere_else(edge):
    rows = edge.engine.session().extend([20, 21, 22])
    assert rows.shape == (3, 96)
    sayable = torch.zeros(96, dtype=torch.bool)
    sayable[2:90:3] = True
    assert torch.isfinite(rows[:, sayable]).all()
    assert torch.isneginf(rows[:, ~sayable]).all()
    assert rows.softmax(-1)[:, ~sayable].sum() == 0


def test_a_token_that_it_has_not_seen_is_read_as_its_unknown_token(edge):
    session = edge.engine.session()
    unseen = [session.extend([token])[0] for token in (3, 4)]
    fresh = edge.engine.session()
    known = [fresh.extend([3 * 4 + 2])[0] for _ in range(2)]
    for read, unknown in zip(unseen, known, strict=True):
        torch.testing.assert_close(read, unknown)


def test_the_audit_and_the_logits_count_what_it_can_say(edge, cloud):
    assert audit_model("edge", "m", edge.engine).vocabulary_size == 30
    assert audit_model("cloud", "m", cloud.engine).vocabulary_size == 96


def test_it_fits_only_the_target_it_was_made_for(edge, cloud, tmp_path):
    edge.demand_same_tokens(cloud)
    tiny_llama(tmp_path / "other", seed=2)
    tiny_tokenizer(vocabulary_size=95).save_pretrained(tmp_path / "other")
    with pytest.raises(SpecbenchError, match="does not match the cloud's tokenizer"):
        edge.demand_same_tokens(CloudModel(CloudSpec(model=str(tmp_path / "other"))))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target_ids": [2] * 30}, "names one of the target's ids twice"),
        ({"target_ids": list(range(70, 100))}, "names an id outside the target's 96"),
        ({"target_ids": list(range(-1, 29))}, "names an id outside"),
        ({"target_ids": list(range(29))}, "has 29 ids, and the draft 30"),
        ({"target_ids": ["a"] * 30}, "is no vocabulary map"),
        ({"target_ids": 7}, "is no vocabulary map"),
        ({"unknown_id": 30}, "has the unknown_id 30"),
        ({"unknown_id": None}, "is no vocabulary map"),
    ],
)
def test_a_bad_map_is_refused(edge, fields, reason):
    with pytest.raises(SpecbenchError, match=reason) as caught:
        _ = changed(edge, **fields).engine
    assert caught.value.exit_code == ExitCode.MODEL


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "cannot be read"), ("{", "is no vocabulary map"), ("{}", "has no")]
)
def test_a_damaged_map_file_is_refused(edge, text, reason):
    path = edge.folder / "vocab_map.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecbenchError, match=reason):
        _ = EdgeModel(edge.spec).engine


def test_a_run_with_such_a_draft_is_lossless_and_its_map_is_on_record(edge, specbench, profile, tmp_path):
    path = profile(edge={"model": str(edge.folder), "vocab_map": "vocab_map.json"})
    done = specbench("run", "speculative", "edge_baseline", "--profile", path, "--json")
    assert done.code == 0, done.err
    assert done.json["methods"]["speculative"]["exact_match"] == 1.0
    (manifest,) = (json.loads(found.read_text()) for found in tmp_path.glob("runs/*/manifest.json"))
    assert "vocab_map_sha256" in manifest["models"]["edge"]
    checked = specbench("check-dtype", "--profile", path, "--load", "--json")
    assert [audit["vocabulary_size"] for audit in checked.json["profiles"][0]["audits"]] == [30, 96]
