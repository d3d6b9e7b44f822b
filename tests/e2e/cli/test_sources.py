"""Which code a method was: kept in the manifest, and named where two runs of it are compared."""

import shutil
import sys

import pytest
from builders import PLUGIN

from specbench.registry import discover
from specbench.results.store import RunStore

MINE = PLUGIN.format(name="mine")


@pytest.fixture
def manifests(tmp_path):
    def read():
        store = RunStore(tmp_path / "runs")
        return [store.read(run_id).manifest for run_id in store.ids()]

    return read


def test_runs_before_and_after_an_edit_of_a_plugin_are_told_apart(specbench, profile, manifests, tmp_path):
    plugin, path = tmp_path / "mine.py", profile(workload={"limit": 1})
    plugin.write_text(MINE)
    command = ["run", "mine", "--profile", path, "--plugin", plugin]
    assert specbench(*command).code == 0
    plugin.write_text(MINE + "# edited\n")
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    assert specbench(*command).code == 0
    first, second = manifests()
    before, after = first.sources["mine"], second.sources["mine"]
    assert (before.name, before.version) == ("mine.py", "file"), "no folder is told"
    assert len(before.sha256) == 64
    assert before.sha256 != after.sha256
    assert first.sources["cloud_optimized_baseline"] == second.sources["cloud_optimized_baseline"]
    shown = specbench("compare", first.run_id, second.run_id, "--json")
    assert shown.code == 0, shown.err
    words = (
        f"source of mine is {before.in_words} in run {first.run_id} and {after.in_words} in run {second.run_id}"
    )
    assert words in shown.json["notes"]
    labels = [row["label"] for name, row in shown.json["methods"].items() if name.startswith("mine")]
    assert labels == [f"lossless, source {each.sha256[:8]}" for each in (before, after)]
    page = tmp_path / "report.md"
    assert specbench("report", first.run_id, second.run_id, "--format", "md", "--out", page).code == 0
    row = next(line for line in page.read_text().splitlines() if line.startswith("| source of mine"))
    assert "not equal" in row
    resumed = specbench(*command, "--resume", first.run_id)
    assert resumed.code == 5
    assert "cannot be resumed: source of mine was mine.py" in resumed.err


def test_two_runs_of_one_code_say_nothing_of_it(specbench, profile, manifests, tmp_path):
    plugin, path = tmp_path / "mine.py", profile(workload={"limit": 1})
    plugin.write_text(MINE)
    for _ in range(2):
        assert specbench("run", "mine", "--profile", path, "--plugin", plugin).code == 0
    shown = specbench("compare", *(found.run_id for found in manifests()), "--json")
    assert not any("source" in note for note in shown.json["notes"])
    assert {row["label"] for row in shown.json["methods"].values()} == {"lossless"}


def test_the_source_of_a_packaged_method_is_all_of_its_package(tmp_path, monkeypatch):
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text(MINE)
    (package / "helper.py").write_text("LENGTH = 4")
    info = tmp_path / "strange_methods-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-methods\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[specbench]\nmine = stranger.method\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = discover().plugins["mine"].code
    (package / "helper.py").write_text("LENGTH = 5")
    after = discover().plugins["mine"].code
    assert (before.name, before.version) == ("strange-methods", "1.2")
    assert before.sha256 != after.sha256
    for name in ("stranger", "stranger.method"):
        sys.modules.pop(name)


def test_the_source_of_our_own_methods_is_all_of_specbench():
    found = {name: plugin.code for name, plugin in discover().plugins.items() if plugin.origin == "specbench"}
    assert len({source.sha256 for source in found.values()}) == 1
    assert None not in {source.sha256 for source in found.values()}
