"""A server that listens in a thread of this process, and its certificate."""

import asyncio
import contextlib
import gc
import shutil
import subprocess
import threading
import weakref

import pytest

from specbench.cloud.served import Served
from specbench.cloud.server.server import Patience, Server


class Watched(Served):
    """Knows which of its targets are still alive."""

    def __init__(self, cloud):
        super().__init__(cloud)
        self.targets = weakref.WeakSet()
        self.passes = []  # which sessions shared each

    def target(self, *asked):
        target = super().target(*asked)
        self.targets.add(target)
        return target

    def pass_together(self, blocks):
        self.passes.append([id(block.session) for block in blocks])
        return super().pass_together(blocks)

    @property
    def held(self):
        gc.collect()
        return len(self.targets)


class Running:
    """A server that listens."""

    def __init__(self, host, token=None, max_sessions=8, tls=None, port=0, batch=None, **patience):
        self.host = host
        _ = host.facts  # as `serve` does: the model is loaded before anybody is heard
        self.server = Server(host, token, max_sessions, Patience(**patience), batch)
        self._tls, self.port = tls, port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.server.listening("127.0.0.1", self.port, self._tls) as self.port:
            self._ready.set()
            await self._stop.wait()

    @property
    def url(self):
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    def stop(self):
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


def certificate(folder, days):
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    cert, key, ask = folder / "cert.pem", folder / "key.pem", folder / "ask.pem"
    for words in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", ask, "-subj", "/CN=cloud"],
        ["x509", "-req", "-in", ask, "-signkey", key, "-days", str(days), "-extfile", folder / "names",
         "-out", cert],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return cert, key
