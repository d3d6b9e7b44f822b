"""Calls of one function in processes beside each other, forked so that they share this one's weights.

A pass over a batch has many short steps that a second thread waits for; two processes of one thread each do not
wait for each other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from specbench.engine.threads import release_compute_threads
from specbench.errors import LESS_MEMORY, RunError, SpecbenchError, described
from specbench.models.confinement import lifted

MOST = 4  # each has a cache of its own
ASK_SECONDS = 5.0


def how_many(device: str) -> int:
    """Processes that compute beside each other: one for each thread of this one, on the CPU."""
    import torch

    can_fork = "fork" in multiprocessing.get_all_start_methods()
    return min(torch.get_num_threads(), MOST) if device == "cpu" and can_fork else 1


def results(
    call: Callable[[int], Any], next_number: Callable[[int], int | None], count: int
) -> Iterator[tuple[int, Any]]:
    """What `call` returns for each number, in the order in which they end.

    Args:
        next_number: what to begin next, or `None` for nothing at the moment; is told how many are being made.
        count: of processes; one is this process itself.

    Raises:
        SpecbenchError: what a call raised, or a process was killed.
    """
    if count == 1:
        while (number := next_number(0)) is not None:
            yield number, call(number)
        return
    idle, processes = _started(call, count)
    busy: dict[Connection, int] = {}
    try:
        while True:
            while idle and (number := next_number(len(busy))) is not None:
                connection = idle.pop()
                with _reporting_death():
                    connection.send(number)
                busy[connection] = number
            if not busy:
                return
            ended = wait(busy)
            for ready in [connection for connection in busy if connection in ended]:
                number = busy.pop(ready)
                with _reporting_death():
                    failure, result = ready.recv()
                if failure:
                    raise SpecbenchError(*failure)
                idle.append(ready)
                yield number, result
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextmanager
def _reporting_death() -> Iterator[None]:
    """Say in one sentence that the process at the other end is gone.

    Raises:
        RunError: it is.
    """
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise RunError("a process of the distillation was killed", LESS_MEMORY) from error


def _started(call: Callable[[int], Any], count: int) -> tuple[list[Connection], list]:
    import torch

    threads = max(1, torch.get_num_threads() // count)
    release_compute_threads()  # threads do not come along into a forked process, which would wait for them
    fork, connections, processes = multiprocessing.get_context("fork"), [], []
    with lifted(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, where a process has threads
        for _ in range(count):
            ours, theirs = multiprocessing.Pipe()
            processes.append(
                fork.Process(target=_serve, args=(call, theirs, threads, os.getpid()), daemon=True)
            )
            processes[-1].start()
            theirs.close()
            connections.append(ours)
    return connections, processes


def _serve(call: Callable[[int], Any], connection: Connection, threads: int, parent: int) -> None:
    """Call for every number that comes, until the process that sends them is gone."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    torch.set_num_threads(threads)
    while os.getppid() == parent:
        if not connection.poll(ASK_SECONDS):
            continue
        answer: tuple[tuple[str, str | None, int] | None, Any]
        try:
            answer = None, call(connection.recv())
        except Exception as error:
            known = described(error)
            answer = (known.message, known.hint, known.exit_code), None
        connection.send(answer)
