"""Terminals of another encoding, readers that leave, users without a home, and halves of characters."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from comparisons import pair, run
from stores import stored

from specbench.results.store import RunStore

MAIN = [sys.executable, "-c", "from specbench.cli import main; main()"]


@pytest.fixture
def stored_run(tmp_path):
    """A run on disk whose name no ASCII terminal can show."""
    made = run(pair(12, 1.4, 0.05), profile_name="größe → 中")
    writer = RunStore(tmp_path / "runs").create(made.manifest)
    for record in made.generations:
        writer.append([replace(record, arrival_ms=tuple(map(float, record.arrival_ms)))])
    return tmp_path / "runs"


ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.parametrize("environment", ASCII)
def test_a_terminal_that_is_not_utf8_gets_the_whole_table(specbench_process, stored_run, environment):
    done = specbench_process("compare", is_started=True, **environment)
    assert done.code == 0, done.err
    assert "gr\\xf6\\xdfe \\u2192 \\u4e2d" in done.out
    assert "faster" in done.out


@pytest.mark.parametrize("environment", ASCII)
def test_json_is_json_on_every_terminal(specbench_process, stored_run, environment):
    done = specbench_process("compare", "--json", is_started=True, **environment)
    assert done.code == 0, done.err
    assert done.json["profile"] == "größe → 中"
    assert done.out.isascii()


def test_json_stays_readable_where_the_terminal_is_utf8(specbench_process, stored_run):
    assert "größe → 中" in specbench_process("compare", "--json", PYTHONIOENCODING="utf-8").out


@pytest.mark.parametrize("words", [["report", "--format", "csv"], ["--help"], ["profiles", "show", "default"]])
def test_a_reader_that_leaves_is_no_failed_check(stored_run, words):
    environment = {**os.environ, "SPECBENCH_RUNS": str(stored_run)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*MAIN, *words], stdout=writer, stderr=subprocess.PIPE, env=environment, check=False, timeout=300
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_user_without_a_home_is_told_of_the_cache_folder(tmp_path):
    unshare = ["unshare", "-U", "--map-user=12345", "--map-group=12345"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "USER", "LOGNAME", "SPECBENCH_CACHE", "XDG_CACHE_HOME")
    }
    words = [*unshare, *MAIN, "models"]
    done = subprocess.run(words, env=environment, capture_output=True, errors="replace", check=False)
    assert done.returncode == 4
    assert "hint: set SPECBENCH_CACHE" in done.stderr
    environment["SPECBENCH_CACHE"] = str(tmp_path)
    assert subprocess.run(words, env=environment, capture_output=True, check=False).returncode == 0


def test_an_unknown_home_in_a_path_is_an_error_with_that_path(specbench):
    done = specbench("run", "cloud_optimized_baseline", "--prompts", "~nobody-of-that-name/prompts.jsonl")
    assert done.code == 2
    assert "~nobody-of-that-name/prompts.jsonl" in done.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("turns", ["Hi \ud83d there"]),
        ("category", "q\ud83d"),
        ("question_id", "a\udc00"),
        ("reference", ["x\ud83d"]),
    ],
)
def test_half_a_character_in_a_prompt_is_one_clear_error(specbench, profile, tmp_path, key, value):
    path = tmp_path / "halves.jsonl"
    row = {"question_id": 1, "category": "qa", "turns": ["Hi"]} | {key: value}
    path.write_text(json.dumps(row) + "\n")
    done = specbench("run", "cloud_optimized_baseline", "--profile", profile(), "--prompts", path)
    assert done.code == 2
    assert f"line 1: {key} holds half of a character" in done.err


def test_a_whole_character_written_as_a_pair_is_kept(specbench, profile, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question_id": "a\\ud83d\\ude00", "category": "qa", "turns": ["Hi \\ud83d\\ude00"]}\n')
    words = ("run", "cloud_optimized_baseline", "--profile", profile(), "--prompts", path)
    assert specbench(*words).code == 0
    assert stored(tmp_path).manifest.prompt_ids == ("a😀",)


def test_a_path_that_is_not_utf8_is_refused_by_the_profile(specbench_process, profile, tmp_path):
    path = os.fsencode(tmp_path) + b"/prompts-\xff.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"question_id": 1, "category": "qa", "turns": ["Hi"]}\n')
    words = ("run", "cloud_optimized_baseline", "--profile", str(profile()), "--prompts", os.fsdecode(path))
    done = specbench_process(*words)
    assert done.code == 3, done.err
    assert "workload.prompts: " in done.err
