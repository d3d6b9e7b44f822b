"""Runs on disk: what is kept when a process is killed, a file is damaged, or the disk is full."""

import os
import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest
from builders import generation, manifest
from comparisons import CONTROL, PROFILE, pair

from specbench.errors import SpecbenchError
from specbench.results.store import RunStore
from specbench.stats.comparison import compare
from specbench.stats.report import report


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_what_is_written_is_read_back(store):
    writer = store.create(manifest())
    writer.append([generation("1"), generation("2")])
    run = store.read("r1")
    assert run.generations == (generation("1"), generation("2"))
    assert run.manifest == manifest()


def test_a_line_cut_off_by_a_kill_is_dropped_and_the_rest_kept(store):
    writer = store.create(manifest())
    writer.append([generation("1"), generation("2")])
    path = writer.folder / "generations.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    run, writer = store.reopen("r1")
    assert run.generations == (generation("1"),)
    writer.append([generation("3")])
    assert store.read("r1").generations == (generation("1"), generation("3"))


def test_a_damaged_line_is_named(store):
    writer = store.create(manifest())
    writer.append([generation("1"), generation("2")])
    path = writer.folder / "generations.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:50] + b"#" + lines[1][51:], b""]))
    with pytest.raises(SpecbenchError, match=r"generations\.jsonl, line 2 is damaged"):
        store.reopen("r1")


@pytest.mark.parametrize("version", [1, 99])
def test_a_record_of_another_schema_is_refused(store, version):
    writer = store.create(manifest())
    data = msgspec.json.decode((writer.folder / "manifest.json").read_bytes()) | {"schema_version": version}
    (writer.folder / "manifest.json").write_bytes(msgspec.json.encode(data))
    with pytest.raises(SpecbenchError, match=f"schema version {version}; this specbench reads 2") as caught:
        store.read("r1")
    assert "run it again" in caught.value.hint


def test_a_run_is_written_by_one_process_at_a_time(store):
    store.create(manifest()).append([generation("1")])
    script = f"""
from pathlib import Path
from specbench.results.store import RunStore
run, writer = RunStore(Path({str(store.folder)!r})).reopen("r1")
print("open", flush=True)
input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SpecbenchError, match="run r1 is being written by another process"):
            store.reopen("r1")
        assert store.read("r1").generations == (generation("1"),)
        other.kill()
    assert store.reopen("r1")[0].generations == (generation("1"),)


def test_a_full_disk_is_one_error_and_leaves_whole_lines(store, tmp_path):
    script = f"""
import resource, signal
from pathlib import Path
import sys; sys.path.insert(0, {str(tmp_path)!r})
from specbench.results.store import RunStore
from specbench.errors import SpecbenchError
from specbench.results.records import Generation, Manifest
import msgspec
manifest = msgspec.json.decode({msgspec.json.encode(manifest())!r}, type=Manifest)
generation = msgspec.json.decode({msgspec.json.encode(generation())!r}, type=Generation)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
writer = RunStore(Path({str(store.folder)!r})).create(manifest)
try:
    for count in range(100):
        writer.append([generation])
except SpecbenchError as error:
    print(count, error.message)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, message = done.stdout.split(" ", 1)
    assert "cannot be written: File too large" in message
    assert int(count) > 0
    assert store.read("r1").generations == (generation(),) * int(count)
    assert (store.folder / "r1" / "generations.jsonl").read_bytes().endswith(b"\n")


@pytest.mark.parametrize(("error", "kept"), [(KeyboardInterrupt(), 2), (OSError(28, "No space left"), 1)])
def test_ctrl_c_keeps_what_is_written_as_a_whole_and_a_full_disk_does_not(store, monkeypatch, error, kept):
    def interrupted(descriptor):
        raise error

    writer = store.create(manifest())
    writer.append([generation()])
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises((KeyboardInterrupt, SpecbenchError)):
        writer.append([generation()])
    assert writer.written().count == kept


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "runs").write_text("a file, where the folder should be")
    with pytest.raises(SpecbenchError, match="cannot be written"):
        RunStore(tmp_path / "runs").create(manifest())


def test_the_newest_run_is_found_and_an_unknown_one_is_an_error(store):
    for run_id in ("20260101-000000-aaaa", "20260102-000000-aaaa"):
        store.create(manifest(run_id))
    assert store.find(None) == "20260102-000000-aaaa"
    with pytest.raises(SpecbenchError, match="there is no run 'x'"):
        store.find("x")


TURNS = {str(question): ("?",) for question in range(12)}


@pytest.fixture
def finished(store):
    """A finished run of two methods and twelve prompts, as a runner leaves it; and its file."""
    names = ("m", CONTROL)
    whole = manifest(
        methods=names, lossless=dict.fromkeys(names, True), prompt_ids=tuple(TURNS), turns=TURNS,
        profile=PROFILE,
    )  # fmt: skip
    writer = store.create(whole)
    writer.append(
        [replace(each, arrival_ms=tuple(map(float, each.arrival_ms))) for each in pair(12, 1.5, 0.05)]
    )
    writer.write_manifest(replace(whole, status="finished", generations=writer.written()))
    writer.lock.release()
    return writer.folder / "generations.jsonl"


def cut(lines):
    return [*lines[:10], lines[10][:20]]


def doubled(lines):
    return lines + lines[:3]


def changed(lines):
    return [lines[0].replace(b'"text":"t"', b'"text":"u"'), *lines[1:]]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "14 of 24 answers of run r1 are missing from generations.jsonl (m on prompt 5, turn 1, and "),
        (doubled, "3 answers are more than once in generations.jsonl of run r1 (cloud"),
        (changed, "generations.jsonl of run r1 is not as the run wrote it"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("counted", [True, False])
def test_a_finished_run_that_lost_or_doubled_lines_says_so_and_has_no_verdict(
    store, finished, damage, told, counted
):
    assert store.read("r1").faults == ()
    assert compare([store.read("r1")]).methods[0].verdict == "faster"
    if not counted:  # as runs were stored before their lines were counted
        data = msgspec.json.decode((finished.parent / "manifest.json").read_bytes())
        del data["generations"]
        (finished.parent / "manifest.json").write_bytes(msgspec.json.encode(data))
    finished.write_bytes(b"".join(damage(finished.read_bytes().splitlines(keepends=True))))
    read = store.read("r1")
    if damage is changed and not counted:
        assert read.faults == ()
        return
    assert read.faults[0].startswith(told)
    found = compare([read])
    assert [(row.verdict, row.speedup_interval) for row in found.methods] == [(None, None)] * 2
    assert found.methods[0].statement == f"no verdict on m: {read.faults[0]}"
    assert read.faults[0] in found.notes
    assert found.categories == report([read]).comparison.categories == ()


def test_what_is_missing_is_asked_again_and_what_is_double_or_changed_is_not_resumed(store, finished):
    lines = finished.read_bytes().splitlines(keepends=True)
    finished.write_bytes(b"".join(cut(lines)))
    run, writer = store.reopen("r1")
    assert "14 of 24 answers" in run.faults[0]
    writer.lock.release()
    for damage in (doubled, changed):
        data = b"".join(damage(lines))
        finished.write_bytes(data)
        with pytest.raises(SpecbenchError, match=r"run r1 cannot be resumed: .*generations\.jsonl"):
            store.reopen("r1")
        assert finished.read_bytes() == data


def test_some_turns_of_a_prompt_in_the_middle_are_not_resumed(store):
    writer = store.create(manifest(prompt_ids=("1", "2")))
    writer.append([generation(name, turn=turn, turns=2) for name in ("1", "2") for turn in (0, 1)])
    path = writer.folder / "generations.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(SpecbenchError, match="some turns of m on prompt 1 are missing"):
        store.reopen("r1")
