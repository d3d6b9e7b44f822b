"""A tiny model on two ranks, and in one process."""

import os
import time

from specbench.cloud import CloudModel
from specbench.profile import CloudSpec, Decoding, Options, Speculative
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
REQUEST = Request(tuple(range(10, 40)), 16, frozenset(), 5)


def whole(folder, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", **fields))


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def tokens_of(commits):
    return [token for commit in commits for token in commit.tokens]
