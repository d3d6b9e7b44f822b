"""The other ranks of a split model, where this server starts them itself: processes that end with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path

from specbench.interpreter import module_command
from specbench.profile.paths import anchored
from specbench.profile.yaml_text import as_text

END_S = 5.0
STORE = "SPECBENCH_RANKS"
"""The environment variable by which ranks that we started know where to meet."""


class RankProcesses:
    """Ranks 1 to `size` - 1: `specbench serve` with torchrun's environment variables.

    Each ends when its standard input does, and so also when this process is killed.

    Args:
        profile: what rank 0 serves, as plain values.
    """

    def __init__(self, profile: dict, size: int) -> None:
        self._size = size
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())  # activations stay on this machine
        self._folder = Path(tempfile.mkdtemp(prefix="specbench-ranks-"))  # readable for this user only
        self.meeting_point = str(self._folder / "store")
        (self._folder / "cloud.yaml").write_text(as_text(anchored(profile)), encoding="utf-8")
        words = ["serve", "--profile", str(self._folder / "cloud.yaml"), "--stop-with-stdin"]
        self._processes: list[subprocess.Popen] = []
        self._end = weakref.finalize(self, _end, self._processes, self._folder)
        for rank in range(1, size):
            known = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": size,
                STORE: self.meeting_point,
            }
            with self._log(rank).open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        module_command("specbench", *words),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=log,
                        env={**os.environ, **{name: str(value) for name, value in known.items()}},
                        start_new_session=True,  # Ctrl-C is rank 0's
                    )
                )

    @property
    def pids(self) -> list[int]:
        """Their process ids, by rank from 1."""
        return [process.pid for process in self._processes]

    def dead(self) -> str | None:
        """Which rank has ended, and why; `None` while all run."""
        for rank, process in enumerate(self._processes, start=1):
            if (code := process.poll()) is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
                return f"rank {rank} of {self._size} {how}{self._last_words(rank)}"
        return None

    def stop(self) -> None:
        """End them, and remove their files."""
        self._end()

    def _log(self, rank: int) -> Path:
        return self._folder / f"log.{rank}"

    def _last_words(self, rank: int) -> str:
        lines = self._log(rank).read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.partition(": ")[2] for line in lines if line.startswith("error: ")]
        return f": {said[-1]}" if said else ""


def _loopback() -> str:
    """The name of the interface that leads nowhere else."""
    import psutil

    found = psutil.net_if_addrs().items()
    return next((name for name, ends in found if any(end.address == "127.0.0.1" for end in ends)), "lo")


def remove_traces() -> None:
    """Remove the files of rank 0, from a rank that it started: it may have been killed."""
    if store := os.environ.get(STORE):
        shutil.rmtree(Path(store).parent, ignore_errors=True)


def _end(processes: list[subprocess.Popen], folder: Path) -> None:
    for process in processes:
        if process.stdin:
            process.stdin.close()
    for process in processes:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    shutil.rmtree(folder, ignore_errors=True)
