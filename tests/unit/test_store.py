"""Runs on disk: what is kept when a process is killed, a file is damaged, or the disk is full."""

import subprocess
import sys

import msgspec
import pytest
from builders import generation, manifest

from specbench.bench.store import RunStore
from specbench.errors import SpecbenchError


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
from specbench.bench.store import RunStore
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
from specbench.bench.store import RunStore
from specbench.errors import SpecbenchError
from specbench.records import Generation, Manifest
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
