"""What compiled code and compilers print on stderr by themselves, kept from the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

STDERR = 2


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Send the process's stderr nowhere: torch's C++ prints stack frames there before it raises.

    Whatever else writes there meanwhile is lost, so nothing is reported inside.
    """
    try:
        kept = os.dup(STDERR)
    except OSError:  # it is closed
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, STDERR)
            os.close(kept)
