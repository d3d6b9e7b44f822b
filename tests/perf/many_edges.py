"""Many edges on one server, with random faults: is every output right, and is nothing leaked?

    python tests/perf/many_edges.py [--edges 8] [--victims 2] [--minutes 10] [--seed 0] [--sessions 4]

Starts `specbench serve` on a tiny random model, and threads that speculate against it (greedy, and with shared
noise; with one proposal in flight, and with windows, `auto` among them) while their connections are cut, and
their frames are lost, repeated, swapped, truncated or replaced by noise. Beside them `--victims` processes do
the same until they are killed after a few seconds, again and again. After a third of the time the server is
killed too, and another one takes its port. Up to `--sessions` edges share a pass of the server; with 1 none do.
Prints how many texts were checked, how many faults came about, and what the server holds along the way. Ends
with status 1 where a text is wrong or the last server keeps sessions.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
import yaml

from specbench.api import SpeculativeDecoder, SpeculativeLoop, Target, WindowLoop
from specbench.cloud import CloudModel, EdgeModel
from specbench.cloud.transport.channel import Channel
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.cloud.transport.socket import SocketChannel
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Options, Speculative
from specbench.speculation.request import Request
from specbench.testing import tiny_llama

FAULT_SHARE = 0.01
DROPPED = r"of its (\d+) drafts (\d+) were dropped behind a refusal, (\d+) of them unread"
OPTIONS = tuple(
    Options(decoding, Speculative(verification=rule, window=window))
    for decoding, rule in ((Decoding(), "greedy"), (Decoding(temperature=1.0), "coupled"))
    for window in (1, 2, 8, "auto")
)


class Flaky(Channel):
    """A socket on which one message in a hundred, either way, meets a fault."""

    silence_s = 2.0

    def __init__(self, url: str, rng: random.Random, fired: list[str]) -> None:
        self._socket, self._rng, self._fired = SocketChannel(url), rng, fired
        self._held: list[bytes] = []  # goes behind the next message

    def send(self, message: bytes) -> None:
        held, self._held = self._held, []
        for part in (*self._damaged(message), *held):
            self._socket.send(part)

    def receive(self, timeout_s: float | None = None) -> bytes:
        while True:
            if parts := self._damaged(self._socket.receive(timeout_s), may_repeat=False):
                return parts[0]

    def close(self) -> None:
        self._socket.close()

    def _damaged(self, message: bytes, may_repeat: bool = True) -> list[bytes]:
        if self._rng.random() >= FAULT_SHARE:
            return [message]
        both = ["cut", "lost", "truncated", "noise"]
        fault = self._rng.choice([*both, "repeated", "swapped"] if may_repeat else both)
        self._fired.append(fault)
        if fault == "cut":
            self._socket.close()
        if fault == "swapped":
            self._held = [message]
        if fault in ("lost", "swapped"):
            return []
        return {
            "cut": [message],
            "truncated": [message[:-1]],
            "noise": [self._rng.randbytes(30)],
            "repeated": [message, message],
        }[fault]


def speculated(edge: EdgeModel, target: Target, options: Options, request: Request) -> list[int]:
    """The committed ids of one sequence."""
    drafter = edge.drafter(options)
    window = options.speculative.window
    one = SpeculativeLoop(drafter, target, 4)
    loop = one if window == 1 else WindowLoop(drafter, target, 4, window)
    decoder = SpeculativeDecoder(drafter, target, loop)
    return [token for part in decoder.generate(request) for token in part.tokens]


@dataclass
class Tally:
    """What edges of one process met.

    Args:
        checked: tokens of each text.
        lost: connections of each edge that were mended.
    """

    checked: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Questions:
    """Requests, and what every way to decode answers to each."""

    cloud: CloudModel
    requests: Sequence[Request]
    wanted: Mapping[tuple[int, int], list[int]]

    def ask(self, url: str, edge: EdgeModel, name: str, until: float, tally: Tally) -> None:
        """One edge, asking at random until then."""
        rng = random.Random(name)
        fingerprint = vocabulary.fingerprint(self.cloud.tokenizer)
        connection = Connection(lambda: Flaky(url, rng, tally.fired), fingerprint, lambda facts: None, 60.0)
        try:
            targets = [RemoteTarget(connection, options, True) for options in OPTIONS]
            while time.monotonic() < until:
                which, request = rng.randrange(len(OPTIONS)), rng.choice(self.requests)
                found = speculated(edge, targets[which], OPTIONS[which], request)
                tally.checked.append(len(found))
                if found != self.wanted[which, request.seed]:
                    tally.wrong.append(f"edge {name}, request {request.seed}, {OPTIONS[which].speculative}")
        except SpecbenchError as error:
            if not tally.checked and "cannot connect" in str(error):
                return  # it began while there was no server
            tally.wrong.append(f"edge {name} ended: {error}")
        except Exception as error:
            tally.wrong.append(f"edge {name} ended: {type(error).__name__}: {error}")
        tally.lost.append(connection.interruptions)
        connection.close()


def kill_edges(asked: Questions, url: str, edge: EdgeModel, name: str, until: float, report: Path) -> None:
    """Begin an edge in a process and kill it, until then; `report` gets a line a kill or wrong text."""
    rng = random.Random(name)
    while time.monotonic() < until:
        victim = os.fork()
        if not victim:
            tally = Tally()
            threading.Thread(
                target=asked.ask, args=(url, edge, f"{name}/{rng.random()}", until, tally), daemon=True
            ).start()
            while not tally.wrong:
                time.sleep(0.05)
            with report.open("a") as lines:
                lines.write(f"wrong: {tally.wrong}\n")
            os._exit(1)
        time.sleep(rng.uniform(0.3, 4))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        with report.open("a") as lines:
            lines.write("killed\n")


def served(profile: Path, log: Path, port: str, most: int) -> tuple[subprocess.Popen, str]:
    """A server, and its address."""
    words = ["serve", "--profile", str(profile), "--port", port, "--max-sessions", str(most)]
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "specbench", *words], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    return server, server.stdout.readline().strip()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--edges", type=int, default=8)
    parser.add_argument("--victims", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process with threads of OpenMP hangs
    scratch = Path(tempfile.mkdtemp())
    target = tiny_llama(scratch / "target", seed=2)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype="float64"))
    requests = [Request(tuple(range(start, start + 20)), 40, frozenset(), start) for start in range(10, 40)]
    # The target's first layer agrees with it now and then.
    draft = {"model": str(target), "layers": 1, "dtype": "float64"}
    drafts = [EdgeModel(EdgeSpec(**draft)) for _ in range(asked.edges + asked.victims)]
    for each in drafts:
        each.load()  # while a model loads, torch's default dtype is the model's, in all threads
    wanted = {
        (index, request.seed): speculated(drafts[0], cloud.verifier(options), options, request)
        for index, options in enumerate(OPTIONS)
        for request in requests
    }
    questions = Questions(cloud, requests, wanted)
    place = {"model": str(target), "device": "cpu", "dtype": "float64", "batch": {"sessions": asked.sessions}}
    profile = scratch / "cloud.yaml"
    profile.write_text(yaml.safe_dump({"edge": draft, "cloud": place}))
    most = 2 * (asked.edges + asked.victims)
    server, url = served(profile, scratch / "first.log", "0", most)
    begun = time.monotonic()
    until, report = begun + 60 * asked.minutes, scratch / "victims"
    report.touch()
    killers = []
    for index in range(asked.victims):
        pid = os.fork()  # before there are threads
        if not pid:
            kill_edges(questions, url, drafts[asked.edges + index], f"{asked.seed}/v{index}", until, report)
            os._exit(0)
        killers.append(pid)
    tally = Tally()
    threads = [
        threading.Thread(target=questions.ask, args=(url, drafts[index], f"{asked.seed}/{index}", until, tally))
        for index in range(asked.edges)
    ]
    for thread in threads:
        thread.start()
    time.sleep(20 * asked.minutes)
    server.kill()
    server.wait()
    server, _ = served(profile, scratch / "log", url.rpartition(":")[2].strip("/"), most)
    process, held = psutil.Process(server.pid), []
    while any(thread.is_alive() for thread in threads):
        held.append((process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()))
        time.sleep(max(0.5, 4 * asked.minutes))
    for pid in killers:
        os.waitpid(pid, 0)
    time.sleep(2)
    said, lines = (scratch / "log").read_text(), report.read_text().splitlines()
    came, gone = len(re.findall(r"edge connected from", said)), len(re.findall(r"disconnected", said))
    wrong = [*tally.wrong, *(line for line in lines if line != "killed")]
    print(f"{len(tally.checked)} texts, {sum(tally.checked)} tokens, {len(tally.fired)} faults, "
          f"{sum(tally.lost)} reconnections; {lines.count('killed')} edges and 1 server killed")  # fmt: skip
    print(f"wrong: {wrong or 'none'}")
    dropped = [sum(map(int, counts)) for counts in zip(*re.findall(DROPPED, said), strict=True)]
    print(f"drafts of edges with refusals: {dropped} (all, dropped, of those unread)")
    is_alive = server.poll() is None
    held.append((process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()))
    print(f"last server alive: {is_alive}; sessions begun {came}, ended {gone}")
    print("its memory in MB, files and threads: " + ", ".join(f"{size:.0f}/{fds}/{n}" for size, fds, n in held))
    server.terminate()
    server.wait()
    sys.exit(bool(wrong) or not is_alive or came != gone)


if __name__ == "__main__":
    main()
