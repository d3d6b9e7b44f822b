"""`specbench bundle`, `recheck` and `reproduce` on a real run of tiny models."""

import hashlib
import json
import shutil
import zipfile

import pytest

from specbench.evidence import archive
from specbench.results.store import RunStore


@pytest.fixture
def measured(specbench, profile, tmp_path):
    """A bundle of a real run."""
    run = specbench("run", "speculative", "--profile", profile(), "--max-new-tokens", "6", "--name", "mine")
    assert run.code == 0, run.err
    made = specbench("bundle", "mine", "--out", tmp_path / "b.zip")
    assert made.code == 0, made.err
    assert "speculative-acceptance-rate" in made.out
    return tmp_path / "b.zip"


def rewritten(path, change):
    files = archive.read(path)
    change(files)
    archive.write(path, files)


def test_a_bundle_is_rechecked_and_an_edited_number_is_named(specbench, measured, tmp_path):
    held = specbench("recheck", measured, "--json")
    assert (held.code, held.json["holds"], held.json["differences"]) == (0, True, [])
    assert {each["id"] for each in held.json["claims"]} > {"speculative-acceptance-rate", "speculative-bugs"}
    assert str(tmp_path) not in b"".join(archive.read(measured).values()).decode()

    def change(files):
        document = json.loads(files["comparison.json"])
        document["methods"]["speculative"]["acceptance_length"] += 0.5
        files["comparison.json"] = json.dumps(document).encode()

    rewritten(measured, change)
    found = specbench("recheck", measured)
    assert found.code == 1
    assert "methods/speculative/acceptance_length is " in found.out
    assert "comparison.json is not as it was bundled" in found.out
    assert specbench("reproduce", measured).code == 1  # there is nothing to reproduce
    assert "The bundle does not hold" in found.out


def test_a_run_is_reproduced_with_the_same_prompts_and_texts(specbench, measured, models, tmp_path):
    there = f"edge.model={models / 'draft'}", f"cloud.model={models / 'target'}"
    missing = specbench("reproduce", measured)
    assert missing.code == 4
    assert "the edge model of the bundle is not here: model folder " in missing.err
    assert "/draft does not exist" in missing.err
    (tmp_path / "prompts.jsonl").unlink()  # they are in the bundle
    done = specbench("reproduce", measured, "--set", there[0], "--set", there[1], "--json")
    assert done.code == 0, done.err
    found = {each["id"]: each for each in done.json["claims"]}
    assert found["speculative-acceptance-rate"]["value"] == found["speculative-acceptance-rate"]["here"]
    assert found["speculative-acceptance-rate"]["agrees"] is True
    assert found["speculative-speedup"]["agrees"] is None  # of three prompts
    assert done.json["environment"] == []
    store = RunStore(tmp_path / "runs")
    old, new = (store.read(run_id) for run_id in store.ids())
    assert done.json["runs"] == [new.manifest.run_id]
    assert new.manifest.prompts_sha256 == old.manifest.prompts_sha256
    assert [each.tokens for each in new.generations] == [each.tokens for each in old.generations]
    one = specbench("reproduce", measured, "--claim", "speculative-speeduq")
    assert "did you mean 'speculative-speedup'" in one.err


def test_another_model_is_refused_by_its_hash_and_other_settings_by_name(specbench, measured, models, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(models / "draft", other)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    words = ("reproduce", measured, "--set", f"cloud.model={models / 'target'}", "--set", f"edge.model={other}")
    refused = specbench(*words)
    assert refused.code == 4
    assert "is not that of the bundle: the SHA-256 of config.json was " in refused.err
    refused = specbench("reproduce", measured, "--set", "speculative.draft_length=2")
    assert (refused.code, "would change what is measured" in refused.err) == (2, True)
    assert len(RunStore(tmp_path / "runs").ids()) == 1


@pytest.mark.slow
def test_a_cloud_in_a_process_of_its_own_is_reproduced(specbench, profile, models, tmp_path):
    path = profile(cloud={"placement": "process"}, workload={"limit": 1, "max_new_tokens": 4})
    assert specbench("run", "speculative", "--profile", path).code == 0
    assert specbench("bundle", "--out", tmp_path / "b.zip").code == 0
    words = ("--set", f"edge.model={models / 'draft'}", "--set", f"cloud.model={models / 'target'}")
    done = specbench("reproduce", tmp_path / "b.zip", *words, "--claim", "speculative-acceptance-rate")
    assert done.code == 0, done.err
    assert "agrees" in done.out


def test_of_several_runs_only_those_behind_a_claim_are_made_again(specbench, profile, models, tmp_path):
    path = profile(edge={"model": str(models / "target")}, workload={"limit": 2, "max_new_tokens": 6})
    for length in (1, 3):
        words = ("--set", f"speculative.draft_length={length}", "--name", f"length{length}")
        assert specbench("run", "speculative", "--profile", path, *words).code == 0
    assert specbench("bundle", "length1", "length3", "--out", tmp_path / "b.zip").code == 0
    words = ("--set", f"edge.model={models / 'target'}", "--set", f"cloud.model={models / 'target'}")
    claim = "speculative-draft_length-3-acceptance-length"
    done = specbench("reproduce", tmp_path / "b.zip", *words, "--claim", claim, "--json")
    assert done.code == 0, done.err
    (new,) = done.json["runs"]
    run = RunStore(tmp_path / "runs").read(new)
    assert run.manifest.profile["speculative"]["draft_length"] == 3
    (found,) = done.json["claims"]
    assert found["here"] == found["value"] > 1


def on_a_gpu(manifest):
    manifest["machine"]["cuda"] = "H200"
    manifest["audits"][0]["device"] = "cuda:0"


def on_a_server(manifest):
    manifest["profile"]["cloud"]["placement"] = "ws://host:8470"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (on_a_gpu, "model on cuda:0 (H200), and there is no CUDA device here"),
        (on_a_server, "had its cloud on another machine, and a bundle names no hosts"),
    ],
)
def test_what_is_not_here_is_refused_by_name(specbench, measured, change, told, monkeypatch):
    def rewrite(files):
        name = next(name for name in files if name.endswith("manifest.json"))
        manifest = json.loads(files[name])
        change(manifest)
        files[name] = json.dumps(manifest).encode()
        index = json.loads(files["bundle.json"])
        index["files"][name] = hashlib.sha256(files[name]).hexdigest()
        files["bundle.json"] = json.dumps(index).encode()

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    rewritten(measured, rewrite)
    refused = specbench("reproduce", measured)
    assert refused.code in (2, 4)
    assert told in refused.err


def test_what_is_no_bundle_and_what_has_no_place_are_one_error(specbench, tmp_path):
    (tmp_path / "x.zip").write_text("no zip")
    for command in ("recheck", "reproduce"):
        refused = specbench(command, tmp_path / "x.zip")
        assert (refused.code, refused.err.count("error:")) == (5, 1)
        assert "Traceback" not in refused.err
    refused = specbench("bundle", "--out", tmp_path / "nowhere" / "b.zip")
    assert (refused.code, "there is no folder" in refused.err) == (5, True)
    assert not zipfile.is_zipfile(tmp_path / "x.zip")
