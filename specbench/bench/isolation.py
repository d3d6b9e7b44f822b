"""`--isolate`: what memory a method takes where it has the process to itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from specbench.bench.store import RunStore
from specbench.config import Profile
from specbench.config.paths import anchored
from specbench.config.yaml_text import as_text


def resident_bytes(
    profile: Profile, methods: Iterable[str], plugins: Iterable[Path], say: Callable[[str], None]
) -> dict[str, int]:
    """The highest resident memory of each method, run alone in a child; a method that fails there has none.

    Methods that are interleaved share a process, in which each holds the models of all.

    Args:
        say: receives a line for each child.
    """
    once = profile.workload.model_copy(update={"repeats": 1})
    alone = profile.model_copy(update={"workload": once})
    text = as_text(anchored(alone.model_dump(mode="json")))
    found: dict[str, int] = {}
    for name in methods:
        say(f"{name}, in a process of its own")
        with tempfile.TemporaryDirectory(prefix="specbench-") as scratch:
            path = Path(scratch) / "alone.yaml"
            path.write_text(text, encoding="utf-8")
            command = [
                *(sys.executable, "-c", "from specbench.cli import main; main()", "run", name, "--only"),
                *("--profile", str(path), "--runs-dir", scratch, "--json"),
                *(word for file in plugins for word in ("--plugin", str(file))),
            ]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            store = RunStore(Path(scratch))
            records = [record for run_id in store.ids() for record in store.read(run_id).generations]
        peaks = [record.peak_rss_bytes for record in records if record.peak_rss_bytes]
        if done.returncode or not peaks:
            said = next((line for line in done.stderr.splitlines() if line.startswith("error: ")), "")
            say(f"{name} did not finish there, and its own memory is unknown; {said}".rstrip("; "))
        else:
            found[name] = max(peaks)
    return found
