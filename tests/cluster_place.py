"""A folder with a profile and a store, and runs in it that can be met half way."""

import contextlib
import json
import sys
from pathlib import Path

import psutil
import warm
import yaml
from builders import Outcome
from waiting import wait_until

from specbench.interpreter import module_command

PROMPTS = [["hello there", "and now?"], ["what is 12 + 30?"], ["tell me a story"], ["7 * 8 = "]]


class Place:
    """A folder with a profile and a store, and the command line in a process of its own."""

    def __init__(self, folder, models, environment):
        self.folder, self.runs = folder, folder / "runs"
        self._environment = {**environment, "SPECBENCH_RUNS": str(self.runs)}
        rows = [{"question_id": n, "category": "talk", "turns": turns} for n, turns in enumerate(PROMPTS)]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        values = {
            "edge": {"model": str(models / "draft")},
            "cloud": {"model": str(models / "target"), "device": "cpu"},
            "engine": {"kind": "eager"},
            "workload": {
                "prompts": str(folder / "prompts.jsonl"),
                "limit": 4,
                "max_new_tokens": 12,
                "warmup": 0,
            },
            # Rounds that take a while and no computing, so that a run can be met half way.
            "link": {"rtt_ms": 80},
        }
        self.profile = folder / "tiny.yaml"
        self.profile.write_text(yaml.safe_dump(values))

    def __call__(self, *words):
        done = warm.run(
            [sys.executable, "-m", "specbench", *map(str, words)],
            capture_output=True, text=True, env=self._environment,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def submit(self, command, *words):
        done = self("submit", command, "speculative", "--profile", self.profile, *words)
        assert done.code == 0, done.err
        return done.out.strip()

    def lines(self, run_id):
        """What is stored of a run, by the line; a line that is being written is left out."""
        path = self.runs / run_id / "generations.jsonl"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def manifest(self, run_id):
        return json.loads((self.runs / run_id / "manifest.json").read_text())

    def processes(self):
        """What runs for this store."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and any(
                    str(self.runs) in word for word in process.cmdline()
                ):
                    found.append(process)
        return found

    def run_of(self, process):
        """The run that a process of this store makes; `None` for all others."""
        words = process.cmdline()
        command = module_command("specbench", "job")
        if words[: len(command)] != command or not words[-1].startswith(str(self.runs)):
            return None
        return json.loads(Path(words[-1]).read_text())["run_id"]

    def half_way(self, wanted=lambda process: True):
        """Wait until a run has answered two to five of its ten requests; its id, its process and its lines."""
        found = []

        def look():
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    run_id = self.run_of(process)
                    if run_id and wanted(process):
                        lines = self.lines(run_id)
                        if 2 <= len(lines) <= 6:
                            found.append((run_id, process, lines))
                            return True
            return False

        wait_until(look, pause_s=0.02)
        return found[0]


def whole_prompts(lines):
    """The lines of prompts that both methods have answered in all turns."""
    rows = [json.loads(line) for line in lines]
    last = {(row["method"], row["prompt_id"]) for row in rows if row["turn"] + 1 == row["turns"]}
    both = {prompt for _, prompt in last if sum(each == prompt for _, each in last) == 2}
    return [line for line, row in zip(lines, rows, strict=True) if row["prompt_id"] in both]
