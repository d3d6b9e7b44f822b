"""What other processes and threads do in their own time."""

import os
import time


def wait_until(condition, seconds=300, pause_s=0.05):
    """However busy the machine is; what hangs is given up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(pause_s)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
