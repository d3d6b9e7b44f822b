"""Does the control differ from itself? Run by hand, on a quiet machine: tests/perf/control_against_itself.py.

Two sides, the same method, a process of its own for every restart; sides alternate (A B B A A B ...), so that a
machine that drifts hurts both alike. Restarts are the repeats of one question. Exits 1 when the verdict is
`faster` or `slower`, which one run in twenty at most may say.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from specbench.render import console
from specbench.render.results import comparison_table
from specbench.results.records import Run
from specbench.results.store import RunStore
from specbench.stats.comparison import CONTROL, compare


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=3, help="processes a side")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--profile", default="default")
    arguments = parser.parse_args()
    order = [side for restart in range(arguments.restarts) for side in ("AB" if restart % 2 == 0 else "BA")]
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        sides: dict[str, list[Run]] = {"A": [], "B": []}
        for side in order:
            command = [
                sys.executable, "-c", "from specbench.cli import main; main()", "run", CONTROL, "--only",
                "--profile", arguments.profile, "--limit", str(arguments.limit),
                "--max-new-tokens", str(arguments.max_new_tokens), "--runs-dir", folder, "--json",
            ]  # fmt: skip
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            sides[side].append(store.read(store.ids()[-1]))
    found = compare([merged(runs, side) for side, runs in sides.items()])
    console.out.print(comparison_table(found))
    row = found.methods[1]
    print(f"restarts: {' '.join(order)}; ratio {row.speedup_vs_control:.4f}, interval {row.speedup_interval}")
    for side, runs in sides.items():
        speeds = [compare([run]).methods[0].tokens_per_second for run in runs]
        print(f"side {side}, tok/s of each process: {', '.join(f'{speed:.2f}' for speed in speeds)}")
    sys.exit(row.verdict in ("faster", "slower"))


def merged(runs: list[Run], side: str) -> Run:
    """The restarts of one side as repeats of one run."""
    workload = runs[0].manifest.profile["workload"] | {"repeats": len(runs)}
    profile = runs[0].manifest.profile | {"workload": workload}
    generations = [
        replace(record, repeat=restart) for restart, run in enumerate(runs) for record in run.generations
    ]
    return Run(replace(runs[0].manifest, run_id=side, profile=profile), tuple(generations))


if __name__ == "__main__":
    main()
