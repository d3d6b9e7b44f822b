"""A run is found by its id, a part of it, `latest`, or its name; and runs are listed and removed."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from builders import generation, manifest

from specbench.errors import SpecbenchError
from specbench.results.run_list import list_runs
from specbench.results.run_names import demand_name
from specbench.results.store import RunStore

IDS = ("20260101-101010-000001", "20260101-111111-000002", "20260202-101010-000003")


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "runs")
    for run_id, name in zip(IDS, ("before", None, "after"), strict=True):
        store.create(replace(manifest(run_id), name=name)).append([generation("1")])
    return store


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, 2), ("latest", 2), (IDS[0], 0), ("20260202", 2), ("000002", 1), ("before", 0), ("after", 2),
    ],
)  # fmt: skip
def test_a_run_is_found_by_what_it_may_be_called(store, asked, found):
    assert store.find(asked) == IDS[found]


def test_of_several_runs_of_one_name_the_newest_is_meant(store):
    store.create(replace(manifest("20260303-000000-000004"), name="before"))
    assert store.find("before") == "20260303-000000-000004"


@pytest.mark.parametrize("asked", ["2026", "20260101-1"])
def test_a_part_of_several_ids_is_an_error_that_lists_them(store, asked):
    with pytest.raises(SpecbenchError, match=f"'{asked}' means . runs: .*{IDS[0]}, {IDS[1]}") as caught:
        store.find(asked)
    assert "specbench runs" in caught.value.hint


@pytest.mark.parametrize("asked", ["", "middle", "0101"])
def test_what_means_no_run_is_an_error(store, asked):
    if asked == "":
        assert store.find(asked) == IDS[2]
        return
    with pytest.raises(SpecbenchError, match=f"there is no run '{asked}'"):
        store.find(asked)


@pytest.mark.parametrize("name", ["latest", "2fast", "a/b", "-x", "a b", ""])
def test_a_name_can_be_told_from_an_id_and_a_path(name):
    with pytest.raises(SpecbenchError, match="cannot be the name of a run"):
        demand_name(name)
    assert demand_name("wifi-20ms.v2") == "wifi-20ms.v2"


def test_runs_are_listed_oldest_first_with_their_size_and_a_damaged_one_too(store):
    (store.folder / IDS[1] / "manifest.json").write_text("{")
    found = list_runs(store)
    assert [(each.run_id, each.name, each.status) for each in found] == [
        (IDS[0], "before", "running"), (IDS[1], None, "damaged"), (IDS[2], "after", "running"),
    ]  # fmt: skip
    sizes = [sum(file.stat().st_size for file in (store.folder / run_id).iterdir()) for run_id in IDS]
    assert [each.size_bytes for each in found] == sizes


def test_a_run_is_removed_unless_another_process_writes_it(store):
    writing = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys; from pathlib import Path; from specbench.results.lock import RunLock\n"
            "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()",
            os.fspath(store.folder / IDS[0]),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writing.stdout.readline() == "held\n"
    with pytest.raises(SpecbenchError, match="is being written by another process"):
        store.delete(IDS[0])
    writing.communicate("")
    store.delete(IDS[0])
    assert store.ids() == [*IDS[1:]]
