"""Every command block of the documentation runs, unless the page says why it cannot.

So that a page takes seconds, these things are replaced, and nothing else: models by tiny ones with random
weights, in every shipped profile; numbers of prompts and tokens by 2 and 6; lists of values by their first two;
compiled passes by eager ones; the minutes of a training by four steps. `RUN` and `SWEEP` are the newest ones.
Installing is left to CI.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import PAGES, all_blocks, blocks, commands

from specbench.results.store import SWEEPS, RunStore

REPLACED = [
    (r"workload\.limit=\d+|workload\.limit=null", "workload.limit=2"),
    (r"workload\.max_new_tokens=\d+", "workload.max_new_tokens=6"),
    (r"--limit \d+", "--limit 2"),
    (r"--max-new-tokens \d+", "--max-new-tokens 6"),
    (r"=1\.\.\d+", "=1,2"),
    (r"(--over \S+?=[^,\s]+,[^,\s]+)(,[^,\s]+)+", r"\1"),
    (r"--minutes \d+", "--tokens 600 --steps 4"),
    (r"--set engine\.(kind|batch_invariant)=\S+", ""),
    (r"--target embedded:\S+", "--target my-target"),
    (r"--draft-vocab \d+", "--draft-vocab 64"),
    (r"--layers \d+", "--layers 1"),
]
NEEDS = {"gguf": "llama_cpp"}
"""Pages that run with a package that is not installed everywhere."""
RUNNABLE = [
    page
    for page in PAGES
    if any(not block.reason for block in blocks(page) if block.language in ("bash", "console"))
]


def shortened(command):
    for pattern, instead in REPLACED:
        command = re.sub(pattern, instead, command)
    return command


def newest(kind, specbench):
    """The id of the newest run or sweep; where a page begins with stored ones, they are made first."""
    store = RunStore(Path(os.environ["SPECBENCH_RUNS"]))
    if kind == "SWEEP" and not list((store.folder / SWEEPS).glob("*.json")):
        assert specbench("sweep", "speculative", "--over", "speculative.draft_length=1,2").code == 0
    if kind == "RUN" and not store.ids():
        assert specbench("run", "speculative").code == 0
    return max(store.ids() if kind == "RUN" else [path.stem for path in (store.folder / SWEEPS).glob("*.json")])


def call(specbench, command):
    """Run one command; what it printed, and its exit status."""
    command = re.sub(r"\b(RUN|SWEEP)\b", lambda match: newest(match[1], specbench), shortened(command))
    if command.startswith(("specbench report", "specbench compare")):
        newest("RUN", specbench)
    for file in Path().glob(
        "specbench-my-method/specbench_my_method.py"
    ):  # what `pip install -e` would make known
        command = re.sub(r"^specbench run my_method", rf"\g<0> --plugin {file}", command)
    if not command.startswith("specbench ") or "\n" in command:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-ec", command], capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        return done.stdout + done.stderr, done.returncode
    words, target = command, None
    if match := re.search(r" > (\S+)$", command):
        words, target = command[: match.start()], Path(match[1])
    done = specbench(*shlex.split(words)[1:])
    if target:
        target.write_text(done.out)
    return done.out + done.err, done.code


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, desk, specbench):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    for block in blocks(page):
        if block.reason or block.language not in ("bash", "console"):
            continue
        outputs = []
        for command in commands(block):
            if command.startswith("pip "):
                continue
            printed, code = call(specbench, command)
            outputs.append(printed)
            if block.language == "bash":
                assert code == 0, f"{block.name}: {command}\n{printed}"
        if block.language == "console":
            lines = [line for line in block.text.splitlines() if line and not line.startswith("$")]
            shown = [line for line in lines if "..." not in line and not line.isdecimal()]
            assert [line for line in shown if line not in "".join(outputs)] == [], outputs


PYTHON_PAGES = sorted({block.page for block in all_blocks("python") if not block.reason})


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, desk):
    names = {}
    for block in blocks(page):
        if block.language == "python" and not block.reason:
            exec(compile(block.text, block.name, "exec"), names)
