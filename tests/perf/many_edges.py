"""Many edges on one server, with random faults: is every output right, and is nothing leaked?

    python tests/perf/many_edges.py [--edges 8] [--minutes 10] [--seed 0] [--sessions 4]

Starts `specbench serve` on a tiny random model, and threads that speculate against it (greedy, and with shared
noise; with one proposal in flight, and with windows) while their connections are cut, and their frames are
lost, repeated, swapped, truncated or replaced by noise.
Up to `--sessions` edges share a pass of the server; with 1 none do. Prints how many texts were checked, how
many faults came about, and the server's memory along the way.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import yaml

from specbench.api import SpeculativeDecoder, SpeculativeLoop, Target, WindowLoop
from specbench.cloud import CloudModel, EdgeModel
from specbench.cloud.transport.channel import Channel
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.cloud.transport.socket import SocketChannel
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


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--edges", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=4)
    asked = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    target = tiny_llama(scratch / "target", seed=2)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype="float64"))
    requests = [Request(tuple(range(start, start + 20)), 40, frozenset(), start) for start in range(10, 40)]
    # The target's first layer agrees with it now and then.
    draft = {"model": str(target), "layers": 1, "dtype": "float64"}
    drafts = [EdgeModel(EdgeSpec(**draft)) for _ in range(asked.edges)]
    for each in drafts:
        each.load()  # while a model loads, torch's default dtype is the model's, in all threads
    wanted = {
        (index, request.seed): speculated(drafts[0], cloud.verifier(options), options, request)
        for index, options in enumerate(OPTIONS)
        for request in requests
    }
    profile = scratch / "cloud.yaml"
    profile.write_text(
        yaml.safe_dump(
            {
                "edge": draft,
                "cloud": {
                    "model": str(target),
                    "device": "cpu",
                    "dtype": "float64",
                    "batch": {"sessions": asked.sessions},
                },
            }
        )
    )
    words = ["serve", "--profile", str(profile), "--port", "0", "--max-sessions", str(2 * asked.edges)]
    with (scratch / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "specbench", *words], stdout=subprocess.PIPE, stderr=log, text=True
        )
    url = server.stdout.readline().strip()
    until = time.monotonic() + 60 * asked.minutes
    fired: list[str] = []
    checked: list[int] = []
    wrong: list[str] = []
    lost: list[int] = []

    def edge_loop(index: int) -> None:
        rng = random.Random(f"{asked.seed}/{index}")
        connection = Connection(
            lambda: Flaky(url, rng, fired),
            vocabulary.fingerprint(cloud.tokenizer),
            lambda facts: None,
            60.0,
        )
        targets = [RemoteTarget(connection, options, True) for options in OPTIONS]
        try:
            while time.monotonic() < until:
                which, request = rng.randrange(len(OPTIONS)), rng.choice(requests)
                found = speculated(drafts[index], targets[which], OPTIONS[which], request)
                checked.append(len(found))
                if found != wanted[which, request.seed]:
                    wrong.append(f"edge {index}, request {request.seed}, {OPTIONS[which].speculative}")
        except Exception as error:
            wrong.append(f"edge {index} ended: {type(error).__name__}: {error}")
        lost.append(connection.interruptions)
        connection.close()

    threads = [threading.Thread(target=edge_loop, args=(index,)) for index in range(asked.edges)]
    for thread in threads:
        thread.start()
    process, sizes = psutil.Process(server.pid), []
    while any(thread.is_alive() for thread in threads):
        sizes.append(process.memory_info().rss / 1e6)
        time.sleep(max(0.5, 6 * asked.minutes))
    time.sleep(2)
    said = (scratch / "log").read_text()
    came, gone = len(re.findall(r"edge connected from", said)), len(re.findall(r"disconnected", said))
    print(f"{len(checked)} texts, {sum(checked)} tokens, {len(fired)} faults, {sum(lost)} reconnections")
    print(f"wrong: {wrong or 'none'}")
    dropped = [sum(map(int, counts)) for counts in zip(*re.findall(DROPPED, said), strict=True)]
    print(f"drafts of edges with refusals: {dropped} (all, dropped, of those unread)")
    print(f"server alive: {server.poll() is None}; sessions begun {came}, ended {gone}")
    print("server resident memory, MB: " + " ".join(f"{size:.0f}" for size in sizes))
    server.terminate()
    server.wait()


if __name__ == "__main__":
    main()
