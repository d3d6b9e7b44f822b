"""Two network namespaces with a link of real packets between them: set up, looked at, taken away. Root only."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from specbench.cloud.link import emulator
from specbench.errors import ExitCode, SpecbenchError
from specbench.interpreter import module_command
from specbench.profile import LinkSpec

EDGE, CLOUD = "specbench-edge", "specbench-cloud"
logger = logging.getLogger(__name__)

DEVICES = {EDGE: "sbedge0", CLOUD: "sbcloud0"}
ADDRESSES = {EDGE: "10.111.111.1", CLOUD: "10.111.111.2"}
STATE = Path("/run/specbench-link.json")
LOG = Path("/run/specbench-link.log")
QUEUE_PACKETS = 1000
CLONE_NEWNET = 0x40000000
NETEM, TUN = "netem", "tun"


@dataclass(frozen=True)
class State:
    """What is up: the way it is made, the process that forwards packets if there is one, and what was asked."""

    how: str
    pid: int | None
    link: dict

    @property
    def spec(self) -> LinkSpec:
        """The link that was asked for."""
        return LinkSpec.model_validate(self.link)


def up(spec: LinkSpec) -> State:
    """Set the link up; it stays until `down`.

    Raises:
        SpecbenchError: not root, up already, or the kernel refuses; then nothing is left behind.
    """
    demand_root()
    if STATE.exists() or _namespaces():
        raise SpecbenchError("an emulated link exists already", "specbench link down", ExitCode.USAGE)
    if spec.trace is not None:
        raise SpecbenchError(
            "an emulated link cannot play a trace", "add --set link.kind=modelled", ExitCode.PROFILE
        )
    try:
        for namespace in (EDGE, CLOUD):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        reason = _netem(spec)
        state = State(NETEM, None, spec.model_dump())
        if reason:
            logger.warning("no netem in this kernel (%s): a process of specbench forwards the packets", reason)
            state = State(TUN, _tun(spec), spec.model_dump())
        for namespace, device in DEVICES.items():
            peer = ADDRESSES[CLOUD if namespace == EDGE else EDGE]
            _ip("-n", namespace, "address", "add", ADDRESSES[namespace], "peer", peer, "dev", device)
            _ip("-n", namespace, "link", "set", device, "up")
        STATE.write_text(json.dumps(asdict(state)))
    except BaseException:
        down()
        raise
    return state


def down() -> bool:
    """Take away whatever is left of a link, after a crash too; says whether there was anything.

    Raises:
        SpecbenchError: not root.
    """
    demand_root()
    found = STATE.exists() or bool(_namespaces())
    with contextlib.suppress(SpecbenchError, ProcessLookupError):  # a damaged state is taken away too
        state = current()
        if state and state.pid is not None:
            _end(state.pid)
    for namespace in _namespaces():
        _ip("netns", "delete", namespace)
    for device in DEVICES.values():  # of a crash before they were moved
        if Path("/sys/class/net", device).exists():
            _ip("link", "delete", device)
    STATE.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    return found


def current() -> State | None:
    """The link that is up, if any.

    Raises:
        SpecbenchError: what was written down of it cannot be read.
    """
    try:
        return State(**json.loads(STATE.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SpecbenchError(f"{STATE} is damaged: {error}", "specbench link down", ExitCode.RUN) from error


def demand(spec: LinkSpec | None = None) -> State:
    """The link that is up, which must be this one if a spec is given.

    Raises:
        SpecbenchError: not root, not up, died, or another one.
    """
    demand_root()
    state = current()
    if state is None:
        raise SpecbenchError(
            "there is no emulated link", "create it with 'specbench link up --profile NAME'", ExitCode.RUN
        )
    if state.pid is not None and not _is_ours(state.pid):
        raise SpecbenchError(
            "the process that forwards the emulated link's packets has ended",
            "recreate it: specbench link down, then specbench link up",
            ExitCode.RUN,
        )
    if spec is not None and spec.model_dump(exclude={"kind"}) != state.spec.model_dump(exclude={"kind"}):
        raise SpecbenchError(
            "the emulated link does not match the profile",
            "'specbench link down', then 'specbench link up' with the same profile and settings",
            ExitCode.RUN,
        )
    return state


def demand_root() -> None:
    """Refuse everybody else.

    Raises:
        SpecbenchError: not root.
    """
    if os.geteuid() != 0:
        raise SpecbenchError(
            "an emulated link needs root: it creates network namespaces",
            "run it with sudo; a run with link.kind=modelled needs no root",
            ExitCode.USAGE,
        )


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets and processes that this thread makes in this block belong to a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"namespace {namespace} cannot be entered")
        try:
            yield
        finally:
            libc.setns(here.fileno(), CLONE_NEWNET)


def _netem(spec: LinkSpec) -> str | None:
    """Join the namespaces by a veth pair with netem on both ends; the reason where the kernel cannot."""
    edge, cloud = DEVICES[EDGE], DEVICES[CLOUD]
    _ip("link", "add", edge, "netns", EDGE, "type", "veth", "peer", "name", cloud, "netns", CLOUD)
    for namespace, rate_mbps in ((EDGE, spec.uplink_mbps), (CLOUD, spec.downlink_mbps)):
        settings = ["limit", str(QUEUE_PACKETS), "delay", f"{spec.rtt_ms / 2:.3f}ms", f"{spec.jitter_ms:.3f}ms"]
        settings += ["loss", f"{spec.loss:.4%}"] if spec.loss else []
        settings += ["rate", f"{rate_mbps * 1e6:.0f}bit"] if rate_mbps else []
        command = ["tc", "-n", namespace, "qdisc", "add", "dev", DEVICES[namespace], "root", "netem", *settings]
        done = _run(command)
        if done.returncode:
            _ip("-n", EDGE, "link", "delete", edge)
            return (done.stderr.strip().splitlines() or ["tc failed"])[0]
    return None


def _tun(spec: LinkSpec) -> int:
    """Join them by two TUN devices and a process that forwards between them; returns its id."""
    command = module_command(emulator.__name__, *DEVICES.values(), spec.model_dump_json())
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    process.stdout.close()
    if line != emulator.READY:
        reason = (LOG.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        raise SpecbenchError(f"the emulated link cannot be created: {reason}", "check that /dev/net/tun exists")
    try:
        for namespace, device in DEVICES.items():
            _ip("link", "set", device, "netns", namespace)
    except BaseException:
        process.kill()
        raise
    return process.pid


def _end(pid: int) -> None:
    if _is_ours(pid):
        os.kill(pid, signal.SIGTERM)
    for _ in range(100):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not _is_ours(pid):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)


def _is_ours(pid: int) -> bool:
    """Whether the process still forwards packets; another one may have its id by now."""
    try:
        return emulator.__name__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _namespaces() -> list[str]:
    listed = _ip("netns", "list").split()
    return [name for name in (EDGE, CLOUD) if name in listed]


def _ip(*arguments: str) -> str:
    done = _run(["ip", *arguments])
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
        raise SpecbenchError(
            f"'ip {' '.join(arguments)}' failed: {reason}",
            "a container needs the capabilities SYS_ADMIN and NET_ADMIN; link.kind=modelled needs none",
            ExitCode.RUN,
        )
    return done.stdout


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise SpecbenchError(f"there is no program '{command[0]}'", "install iproute2", ExitCode.RUN) from error
