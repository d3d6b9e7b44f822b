"""Ctrl-C that is not lost when a library swallows the exception."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def insisting() -> Iterator[Callable[[], None]]:
    """While inside, Ctrl-C raises KeyboardInterrupt as ever; the callable raises it again if it was swallowed.

    The exception comes at any line of the main thread, and a bare `except:` there, of which imports have some,
    would let the run go on.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield lambda: None
        return
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    def insist() -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield insist
    finally:
        signal.signal(signal.SIGINT, before)
