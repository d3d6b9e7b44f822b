"""A sweep's wall time with one and with two workers: run by hand, on a quiet machine.

    python tests/perf/sweep_workers.py [--launcher local|slurm] [--limit 4] [--max-new-tokens 48]

Twelve points (draft lengths 1 to 12) of the default pair are submitted and collected, with one worker and then
with two: processes of this machine, or nodes of a Slurm started as in the tests (root only; with
one worker its second node is drained). Every worker has one thread, so that two have a core each. Shown
is the wall time from `submit` to the end of `collect`, and what a neighbour does to the times measured: the
geometric mean over points of the control's time per token, two workers over one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scipy.stats import gmean

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "e2e" / "cluster"), str(TESTS)]


def specbench(environment, *words):
    done = subprocess.run(
        [sys.executable, "-m", "specbench", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
    )
    return done.stdout


def sweep(environment, words, launcher, workers):
    """Seconds from submitting to having collected, and the control's time per token by point."""
    split = ["--workers", str(workers)] if launcher == "local" else []
    with tempfile.TemporaryDirectory(prefix="specbench-sweep-") as folder:
        environment = {**environment, "SPECBENCH_RUNS": folder}
        began = time.monotonic()
        over = ("--over", "speculative.draft_length=1..12")
        specbench(environment, "submit", "sweep", "speculative", *over, "--launcher", launcher, *split, *words)
        rows = json.loads(specbench(environment, "submit", "collect", "--json"))["rows"]
        seconds = time.monotonic() - began
    return seconds, [row["tpot_ms"] for row in rows if row["method"] != "speculative"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--limit", default="4")
    parser.add_argument("--max-new-tokens", default="48")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    words = ["--profile", asked.profile, "--set", f"workload.limit={asked.limit}"]
    words += ["--set", f"workload.max_new_tokens={asked.max_new_tokens}", "--set", "cloud.threads=1"]
    words += [part for each in ("edge.threads=1", *asked.set) for part in ("--set", each)]
    environment, slurm = {**os.environ, "OMP_NUM_THREADS": "1"}, None
    if asked.launcher == "slurm":
        from conftest import Slurm  # of tests/e2e/cluster

        slurm = Slurm()
    try:
        if slurm:
            slurm.start()
            environment |= {"SLURM_CONF": slurm.environment["SLURM_CONF"]}
        found = {}
        for workers in (1, 2):
            if slurm:
                state = "state=drain reason=one" if workers == 1 else "state=resume"
                slurm.ask("scontrol", "update", "nodename=n2", *state.split())
            seconds, tpot_ms = found[workers] = sweep(environment, words, asked.launcher, workers)
            print(
                f"{asked.launcher}, {workers} worker(s): {seconds:.1f} s for {len(tpot_ms)} points", flush=True
            )
    finally:
        if slurm:
            slurm.stop()
    (one, alone), (two, beside) = found[1], found[2]
    slower = gmean([each / base for each, base in zip(beside, alone, strict=True)])
    print(
        f"two workers: {one / two:.2f} times as fast; the control's time per token {slower:.2f} times as long"
    )


if __name__ == "__main__":
    main()
