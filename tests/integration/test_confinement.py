"""The edge as a small device: what is applied before torch starts, what is refused, what is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from specbench.errors import ExitCode, SpecbenchError
from specbench.models import confinement
from specbench.profile import EdgeSpec, load_profile

CPU = min(os.sched_getaffinity(0))
PROLOGUE = "from specbench.profile import EdgeSpec; from specbench.models import confinement\n"


def confined(body, **fields):
    """Run code in a process of its own that has been confined; what it prints is JSON."""
    begin = f"applied = confinement.confine(EdgeSpec(model='m', **{fields!r}))\n"
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + begin + body], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_thread_that_torch_starts_runs_on_the_edges_processors():
    found = confined(
        "import json, os, torch\n"
        "torch.set_num_threads(3); torch.ones(2000, 2000) @ torch.ones(2000, 2000)\n"
        "threads = [sorted(os.sched_getaffinity(int(task))) for task in os.listdir('/proc/self/task')]\n"
        "print(json.dumps([applied, threads]))",
        cpus=[CPU],
    )
    applied, threads = found
    assert applied == {"cpus": str(CPU)}
    assert len(threads) >= 3
    assert all(thread == [CPU] for thread in threads)


def test_a_process_that_is_started_for_the_cloud_is_not_confined():
    found = confined(
        "import json, os, subprocess, sys\n"
        "code = 'import os; print(sorted(os.sched_getaffinity(0)))'\n"
        "with confinement.lifted():\n"
        "    cloud = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        "edge = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        "print(json.dumps([cloud, edge]))",
        cpus=[CPU],
    )
    assert found == [f"{sorted(os.sched_getaffinity(0))}\n", f"[{CPU}]\n"]


def grants_memory():
    found = confined("import json; print(json.dumps(applied))", memory_limit="4GiB")
    return not found["memory_limit"].startswith("not applied")


MEMORY = pytest.mark.skipif(not grants_memory(), reason="this machine grants no memory cgroup")


@MEMORY
def test_memory_above_the_limit_ends_the_process_and_address_space_alone_does_not():
    body = (
        "import json, mmap, os, sys\n"
        "mmap.mmap(-1, 8 << 30)\n"  # address space alone costs nothing
        "child = os.fork()\n"
        "if not child:\n"
        "    block = bytearray(600 << 20)\n"
        "    os._exit(0)\n"
        "_, status = os.waitpid(child, 0)\n"
        "print(json.dumps([applied, os.waitstatus_to_exitcode(status), confinement.free_bytes()]))"
    )
    applied, status, free = confined(body, memory_limit="300MiB")
    assert applied["memory_limit"].startswith("300MiB, by cgroup v")
    assert status == -9
    assert 0 < free <= 300 << 20


@MEMORY
def test_the_cloud_is_started_outside_the_limit_and_nothing_is_left_behind():
    body = (
        "import json, subprocess, sys\n"
        "code = \"print([line for line in open('/proc/self/cgroup') if 'specbench-' in line])\"\n"
        "with confinement.lifted():\n"
        "    cloud = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        "edge = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        "print(json.dumps([cloud, edge, str(confinement._confined.group.folder)]))"
    )
    cloud, edge, folder = confined(body, memory_limit="1GiB")
    assert cloud == "[]\n"
    assert "specbench-" in edge
    assert not Path(folder).exists()


def test_a_processor_that_is_not_there_is_refused():
    code = PROLOGUE + "confinement.confine(EdgeSpec(model='m', cpus=[4095]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "edge.cpus names CPU 4095, and this process may use" in done.stderr


def test_too_late_is_said_and_nothing_to_do_is_nothing():
    import torch  # noqa: F401

    assert confinement.confine(EdgeSpec(model="m", threads=1)) == {}
    with pytest.raises(SpecbenchError, match="torch is already loaded in this process"):
        confinement.confine(EdgeSpec(model="m", cpus=[CPU]))


@pytest.mark.parametrize(
    ("text", "size"), [("300MiB", 300 * 2**20), ("1.5GB", 1_500_000_000), ("2 GiB", 2 * 2**30)]
)
def test_sizes(text, size):
    assert confinement.size_bytes(text) == size


@pytest.mark.parametrize("key", ["edge.cpus=[0]", "edge.memory_limit=1GiB"])
def test_a_confined_edge_does_not_share_its_process_with_the_cloud(key):
    with pytest.raises(
        SpecbenchError, match=r"the cloud runs in it too; set cloud\.placement=process"
    ) as error:
        load_profile("default", [key])
    assert error.value.exit_code == ExitCode.PROFILE
    assert load_profile("default", [key, "cloud.placement=process"])


def test_the_shipped_profile_confines_the_edge_and_not_the_cloud():
    profile = load_profile("edge_constrained")
    assert (profile.edge.cpus, profile.edge.threads) == ([0], 1)
    assert profile.edge.memory_limit
    assert profile.cloud.placement == "process"
    assert profile.cloud.threads is None
