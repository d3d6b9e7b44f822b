"""Processes of specbench that are forked from one which has imported everything, instead of started anew.

A process of specbench spends seconds of a processor on imports before it does anything. `WarmPopen` is a
`subprocess.Popen` for commands of this Python: what it starts is a process of its own with its own pid, session
and standard streams, a child of this one, which is waited for, signalled and killed as ever.

What is about the start of a process itself (imports, confinement, the time of `--help`) starts one anew.
"""

import array
import contextlib
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
MOST_DESCRIPTORS = 8
MODULES = (
    "accelerate", "altair", "pydantic", "safetensors.torch", "scipy.stats", "torch", "transformers", "typer",
    "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers", "websockets.sync.client",
)  # fmt: skip

_nursery = None


class WarmPopen(subprocess.Popen):
    """A command of this Python, `-m MODULE` or `-c CODE`, in a process that has its imports."""

    def _execute_child(self, args, *others):
        words = [os.fsdecode(word) for word in args]
        # Another program, or another network namespace or cgroup, which a new process inherits.
        if words[0] != sys.executable or _place() != nursery().place:
            super()._execute_child(args, *others)
            return
        passed, cwd, env, start_new_session = others[3], others[4], others[5], others[20]
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = others[9:15]
        asked = {
            "words": [word for word in words[1:3] if word != "-P"] + words[3:],
            "cwd": os.fspath(cwd) if cwd else os.getcwd(),
            "environment": dict(os.environ if env is None else env),
            "own_session": start_new_session,
            "affinity": sorted(os.sched_getaffinity(0)),
            "passed": list(passed),
        }
        streams = [(p2cread, 0), (c2pwrite, 1), (errwrite, 2)]
        self.pid = nursery().born(asked, [*(given if given != -1 else own for given, own in streams), *passed])
        self._child_created = True
        for theirs, ours in ((p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread)):
            if theirs != -1 and ours != -1:
                os.close(theirs)
        if (devnull := getattr(self, "_devnull", None)) is not None:
            os.close(devnull)


def run(words, *, timeout=None, check=False, capture_output=False, **options):
    """As `subprocess.run`, by `WarmPopen`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with WarmPopen(words, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def nursery():
    """The process of this session that has imported everything; started when first asked for."""
    global _nursery
    if _nursery is None:
        _nursery = Nursery()
    return _nursery


def _place():
    """What a process inherits and cannot be told: where it is in the network, and in which cgroup."""
    return os.stat("/proc/thread-self/ns/net").st_ino, Path("/proc/self/cgroup").read_text()


class Nursery:
    """Forks a process for every request."""

    def __init__(self):
        self.place = _place()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        code = f"import sys; sys.path[:0] = {sys.path!r}; import warm; warm.serve({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()

    def born(self, asked, streams):
        """The pid of a new process."""
        said = json.dumps(asked).encode()
        packed = array.array("i", streams)
        # Its parent ends at once. Only for that moment: orphans of others are init's to bury, not ours.
        _adopt_orphans(True)
        try:
            self._ours.sendmsg([len(said).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
            self._ours.sendall(said)
            return int.from_bytes(_exactly(self._ours, 4), "big")
        finally:
            _adopt_orphans(False)


def _adopt_orphans(is_wanted):
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(is_wanted))


def _exactly(channel, count):
    found = b""
    while len(found) < count:
        part = channel.recv(count - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def serve(number):
    """Fork a process for every request that comes; as its parent ends at once, it is a child of the tests'."""
    import importlib

    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    channel = socket.socket(fileno=number)
    while True:
        try:
            size, ancillary, _, _ = channel.recvmsg(4, socket.CMSG_LEN(MOST_DESCRIPTORS * 4))
            if not size:
                return
            streams = array.array("i")
            streams.frombytes(ancillary[0][2])
            asked = json.loads(_exactly(channel, int.from_bytes(size, "big")))
        except EOFError:
            return
        read, write = os.pipe()
        between = os.fork()
        if not between:
            born = os.fork()
            if born:
                os.write(write, born.to_bytes(4, "big"))
                os._exit(0)
            for end in (read, write):
                os.close(end)
            channel.close()
            _become(asked, streams)
        os.waitpid(between, 0)  # now the other one is a child of the tests' process, which may wait for it
        channel.sendall(os.read(read, 4))
        for end in (read, write, *streams):
            os.close(end)


def _become(asked, streams):
    """Be the process that was asked for; does not return."""
    if asked["own_session"]:
        os.setsid()
    streams, passed = streams[:3], streams[3:]
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    for stream in streams:
        os.close(stream)
    # What was passed on has other numbers here.
    numbers = {str(there): str(here) for there, here in zip(asked["passed"], passed, strict=True)}
    words = list(asked["words"])
    if numbers:
        place = words.index("--pipe") + 1
        words[place] = numbers[words[place]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.sched_setaffinity(0, asked["affinity"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    encoding = asked["environment"].get("PYTHONIOENCODING")
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False)
    import torch

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    code = 1
    try:
        code = _run(*words)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(kind, what, *words):
    import atexit
    import threading
    import traceback

    sys.argv = ["-c" if kind == "-c" else what, *words]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:  # it dies of the signal, as Python does
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    return code & 0xFF
