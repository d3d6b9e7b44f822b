"""`placement: process`: a `specbench serve` of our own, which ends with us."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from specbench.errors import ExitCode, SpecbenchError
from specbench.interpreter import module_command
from specbench.profile.paths import anchored
from specbench.profile.yaml_text import as_text

END_S = 5.0
LOOPBACK = "127.0.0.1"


class CloudProcess:
    """A server in a process of its own that nobody else has the token of.

    It ends when its standard input does, and so also when this process is killed.

    Args:
        profile: what it serves, as plain values.
        threads: compute threads that it may use; `None` is torch's own choice.
        host: the address where it listens.
        most_edges: that it serves at a time; as many as a server does by itself when absent.
        is_piped: whether one edge, in this process, has a pipe to it.
        launcher: the words before the server's command, where it runs on another machine.
        folder: where the folder of its files is made; among the temporary ones if absent.

    Raises:
        SpecbenchError: the server's own reason for not starting.
    """

    def __init__(
        self,
        profile: dict,
        threads: int | None,
        host: str = LOOPBACK,
        *,
        most_edges: int | None = None,
        is_piped: bool = False,
        launcher: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="specbench-cloud-", dir=folder))  # readable for this user only
        self.token_file = folder / "token"
        self.token = secrets.token_urlsafe(32)
        self.token_file.write_text(self.token, encoding="utf-8")
        (folder / "cloud.yaml").write_text(as_text(anchored(profile)), encoding="utf-8")
        environment = dict(os.environ)
        if threads is not None:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        words = ["serve", "--profile", str(folder / "cloud.yaml"), "--host", host, "--port", "0"]
        words += ["--token-file", str(self.token_file), "--draft", "--stop-with-stdin"]
        if most_edges is not None:
            words += ["--max-sessions", str(most_edges)]
        there: socket.socket | None = None
        self._pipe: socket.socket | None = None
        if is_piped:
            self._pipe, there = socket.socketpair()
        if there:
            words += ["--pipe", str(there.fileno())]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*launcher, *module_command("specbench", *words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours: we end it when we are done
                pass_fds=[there.fileno()] if there else (),
            )
        if there:
            there.close()
        self._end = weakref.finalize(self, _end, self._process, folder)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            code = self._process.wait()
            lines = self.lines
            self._end()
            raise _failure(lines, code)

    def take_pipe(self) -> socket.socket | None:
        """Our end of its pipe, once; a pipe that was lost is not made again."""
        pipe, self._pipe = self._pipe, None
        return pipe

    @property
    def lines(self) -> list[str]:
        """What it has said so far, on stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def end(self) -> str:
        """The status of one that has ended, and what it said last."""
        return ": ".join([f"status {self._process.poll()}", *self.lines[-1:]])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it, and remove its files."""
        self._end()


def _end(process: subprocess.Popen, folder: Path) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _failure(lines: list[str], code: int) -> SpecbenchError:
    """What the server said when it did not start."""
    said = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    status = code if code >= 0 else 128 - code
    if "error" not in said and 128 < status < 128 + signal.NSIG:  # as srun tells it too
        return SpecbenchError(
            f"the cloud process was killed by signal {status - 128} before it served", None, status
        )
    message = said.get("error") or (lines[-1] if lines else f"exit status {code}")
    known = code in {int(status) for status in ExitCode} and code > 0
    return SpecbenchError(
        f"the cloud process did not start: {message}",
        said.get("hint"),
        ExitCode(code) if known else ExitCode.RUN,
    )
