"""Paths in profiles and options: from where they are seen, wherever a command runs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from builders import mapped_draft

from specbench.cloud import CloudModel, EdgeModel
from specbench.errors import SpecbenchError, SpecbenchWarning
from specbench.profile import load_profile
from specbench.profile.paths import anchored
from specbench.profile.yaml_text import as_text
from specbench.results.store import RunStore

without_a_warning = pytest.mark.filterwarnings("error::specbench.errors.SpecbenchWarning")
ASKED = {"question_id": 1, "category": "talk", "turns": ["hello there"]}


@pytest.fixture
def place(models, tmp_path, monkeypatch):
    """A folder with a profile, its models and its prompts, all named as that folder sees them."""
    shutil.copytree(models / "draft", tmp_path / "p" / "m" / "draft")
    shutil.copytree(models / "target", tmp_path / "p" / "m" / "target")
    (tmp_path / "p" / "ask.jsonl").write_text(json.dumps(ASKED) + "\n")
    values = {
        "edge": {"model": "m/draft"},
        "cloud": {"model": "./m/target", "device": "cpu"},
        "engine": {"kind": "eager"},
        "workload": {"prompts": "ask.jsonl", "limit": 1, "max_new_tokens": 4, "warmup": 0},
    }
    (tmp_path / "p" / "my.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(profile):
    return profile.edge.model, profile.cloud.model, profile.workload.prompts


@without_a_warning
@pytest.mark.parametrize(
    ("folder", "file", "seen"),
    [
        (".", "p/my.yaml", ("./p/m/draft", "./p/m/target", "./p/ask.jsonl")),
        ("p", "./my.yaml", ("m/draft", "./m/target", "ask.jsonl")),
        ("elsewhere", "../p/my.yaml", ("{}/p/m/draft", "{}/p/m/target", "{}/p/ask.jsonl")),
    ],
)
def test_a_path_in_a_profile_is_relative_to_the_profile(place, monkeypatch, folder, file, seen):
    monkeypatch.chdir(place / folder)
    assert named(load_profile(file)) == tuple(path.format(place) for path in seen)


@without_a_warning
def test_a_path_of_a_further_draft_model_is_relative_to_the_profile_too(place):
    (place / "p" / "two.yaml").write_text("extends: my.yaml\nedge: {helpers: {small: {model: m/draft}}}\n")
    loaded = load_profile("p/two.yaml")
    assert loaded.edge.helpers["small"].model == "./p/m/draft"
    there = anchored(loaded.model_dump(mode="json"))["edge"]["helpers"]["small"]["model"]
    assert there == str(place / "p" / "m" / "draft")


@without_a_warning
def test_a_profile_that_is_extended_keeps_paths_of_its_own(place):
    (place / "elsewhere" / "child.yaml").write_text("extends: ../p/my.yaml\nlink: {trace: t.csv}\n")
    (place / "elsewhere" / "t.csv").write_text("")
    profile = load_profile("elsewhere/child.yaml")
    assert named(profile) == ("./p/m/draft", "./p/m/target", "./p/ask.jsonl")
    assert profile.link.trace == "./elsewhere/t.csv"


@without_a_warning
def test_a_path_in_an_option_is_relative_to_the_working_directory(place):
    profile = load_profile("p/my.yaml", ["edge.model=p/m/target"], {"workload.prompts": "p/ask.jsonl"})
    assert named(profile) == ("p/m/target", "./p/m/target", "p/ask.jsonl")


def test_a_path_that_only_the_working_directory_knows_is_taken_with_a_warning(place, specbench):
    path = place / "elsewhere" / "old.yaml"
    path.write_text("edge: {model: p/m/draft}\ncloud: {model: embedded:smollm2-135m-instruct}\n")
    with pytest.warns(SpecbenchWarning, match=r"edge\.model: p/m/draft is not in the folder of old\.yaml"):
        assert load_profile(str(path)).edge.model == "p/m/draft"
    shown = specbench("profiles", "show", path)
    assert (shown.code, "model: p/m/draft" in shown.out) == (0, True)
    assert "warning: edge.model: p/m/draft is not in the folder of old.yaml" in " ".join(shown.err.split())


@without_a_warning
@pytest.mark.parametrize("model", ["embedded:smollm2-135m-draft", "Qwen/Qwen2.5-0.5B-Instruct", "/no/such"])
def test_what_is_no_path_here_stays_as_it_is(place, model):
    (place / "p" / "hub.yaml").write_text(f"edge: {{model: {model}}}\ncloud: {{model: b}}\n")
    assert load_profile("p/hub.yaml").edge.model == model


def test_a_path_that_leads_nowhere_is_named_as_the_profile_means_it(place):
    (place / "p" / "bad.yaml").write_text("edge: {model: ./none}\ncloud: {model: ./m/target}\n")
    with pytest.raises(SpecbenchError, match=r"model folder \./p/none does not exist"):
        _ = EdgeModel(load_profile("p/bad.yaml").edge).config


@without_a_warning
def test_a_vocabulary_map_lies_where_its_path_says_or_by_its_name_alone_beside_the_weights(place):
    cloud = CloudModel(load_profile("p/my.yaml").cloud)
    draft = place / "p" / "m" / "mapped"
    draft.mkdir()
    mapped_draft(draft, cloud, 20)
    (draft / "maps").mkdir()
    shutil.copy(draft / "vocab_map.json", draft / "maps" / "own.json")
    shutil.copy(draft / "vocab_map.json", place / "p" / "moved.json")
    (place / "p" / "vocab.yaml").write_text(
        "extends: ./my.yaml\nedge: {model: m/mapped, vocab_map: moved.json}\n"
    )
    given = {
        "none given": [],
        "a name alone": ["edge.vocab_map=vocab_map.json"],
        "a path": ["edge.vocab_map=p/m/mapped/vocab_map.json"],
    }
    for overrides in given.values():
        edge = EdgeModel(load_profile("p/vocab.yaml", overrides).edge)
        assert len(edge.draft_vocabulary.target_ids) == 20
    edge = EdgeModel(load_profile("p/vocab.yaml", ["edge.vocab_map=maps/own.json"]).edge)
    with pytest.warns(SpecbenchWarning, match="found in the model's folder"):
        assert len(edge.draft_vocabulary.target_ids) == 20


@without_a_warning
def test_a_profile_that_is_written_down_means_the_same_in_another_folder(place, monkeypatch):
    loaded = load_profile("p/my.yaml", ["edge.revision=m", "edge.model=./p/m/draft"])
    written = place / "elsewhere" / "written.yaml"
    written.write_text(as_text(anchored(loaded.model_dump(mode="json"))))
    monkeypatch.chdir(place / "elsewhere")
    again = load_profile("written.yaml")
    assert [Path(path).resolve() for path in named(again)] == [
        place / "p" / "m" / "draft", place / "p" / "m" / "target", place / "p" / "ask.jsonl",
    ]  # fmt: skip
    assert again.edge.revision == "m"


@without_a_warning
def test_a_run_and_a_sweep_go_on_from_another_folder(place, specbench, monkeypatch):
    """By id alone, with the words that started them; and with words as this folder sees them."""
    monkeypatch.delenv("SPECBENCH_RUNS", raising=False)
    words = ("--profile", "p/my.yaml", "--set", "edge.model=p/m/target", "--prompts", "p/ask.jsonl")
    assert specbench("run", "speculative", *words).code == 0
    store = RunStore(place / "runs")
    (run_id,) = store.ids()
    records = place / "runs" / run_id / "generations.jsonl"

    monkeypatch.chdir(place / "elsewhere")
    records.write_bytes(b"")
    done = specbench("run", "--resume", run_id, "--runs-dir", "../runs")
    assert done.code == 0, done.err
    assert len(store.read(run_id).generations) == 2

    monkeypatch.chdir(place / "elsewhere")
    records.write_bytes(b"")
    words = ("--profile", "../p/my.yaml", "--set", "edge.model=../p/m/target", "--prompts", "../p/ask.jsonl")
    done = specbench("run", "speculative", *words, "--runs-dir", "../runs", "--resume", run_id)
    assert done.code == 0, done.err
    assert len(store.read(run_id).generations) == 2

    monkeypatch.chdir(place)
    swept = specbench(
        "sweep", "cloud_baseline", "--profile", "p/my.yaml", "--over", "workload.max_new_tokens=2,3", "--json"
    )
    assert swept.code == 0, swept.err
    record = place / "runs" / "sweeps" / f"{swept.json['sweep']}.json"
    row = json.loads(record.read_text())
    row["finished"].remove(1)
    del row["runs"]["1"]
    record.write_text(json.dumps(row))
    monkeypatch.chdir(place / "elsewhere")
    done = specbench("sweep", "--resume", swept.json["sweep"], "--runs-dir", "../runs", "--html", "map.html")
    assert done.code == 0, done.err
    assert len(json.loads(record.read_text())["finished"]) == 2
    assert (place / "elsewhere" / "map.html").is_file()
