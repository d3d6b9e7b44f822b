"""One process writes a run at a time."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from specbench.errors import StoreError

LOCK = "lock"


class RunLock:
    """Held until it is released, or its process ends, however it does.

    It is a record lock, which NFS keeps for all its machines; a file system without locks keeps none.

    Args:
        folder: the run's.

    Raises:
        SpecbenchError: another process writes this run.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        import fcntl

        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        self.release = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self.release()
            raise StoreError(
                f"run {folder.name} is being written by another process",
                f"wait for it or end it, then resume with 'specbench run --resume {folder.name}'",
            ) from None
        except OSError:
            pass  # there are no locks here
