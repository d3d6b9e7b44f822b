"""A real Slurm of two nodes on this machine."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

NODES = {"n1": "127.0.0.1", "n2": "127.0.0.2"}
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
CONFIGURATION = """
ClusterName=specbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=1
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,bf_hetjob_immediate
KillWait=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


class Slurm:
    """The daemons of a scheduler and of two nodes, all files in one folder that goes with them."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="specbench-slurm-"))
        self.folder.chmod(0o711)  # munge wants its socket's folder passable for all
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def start(self):
        sockets = [socket.socket() for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        host = socket.gethostname()
        text = CONFIGURATION.format(host=host, port=ports[0], folder=self.folder)
        for (name, address), port in zip(NODES.items(), ports[1:], strict=True):
            text += (
                f"NodeName={name} NodeHostname={host} NodeAddr={address} Port={port} CPUs={os.cpu_count()}\n"
            )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()
        (self.folder / "munge.key").touch(0o600)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        names = ("key-file", "socket", "pid-file", "log-file", "seed-file")
        self._start(
            "munged",
            "--foreground",
            *(f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in names),
        )
        wait_until((self.folder / "munge.socket").exists)
        self._start("slurmctld", "-D")
        for name in NODES:
            self.start_node(name)
        wait_until(lambda: self.ask("sinfo", "-hN", "-p", "main", "-o", "%T").split() == ["idle"] * len(NODES))

    def start_node(self, name):
        self._start("slurmd", "-D", "-N", name)

    def ask(self, *words):
        return subprocess.run(words, capture_output=True, text=True, env=self.environment, timeout=300).stdout

    def crash(self, node):
        """End everything that runs on a node, as when its power fails: first those that would report it."""
        jobs, reporters = [], []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[-2:] == ["-N", node]:
                    reporters.append(process)
                elif process.environ().get("SLURMD_NODENAME") == node:
                    jobs.append(process)
                    reporters += [each for each in process.parents() if each.name() == "slurmstepd"]
        for process in (*reporters, *jobs):
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=crashed")

    def bring_back(self, node):
        """Start a node that crashed, and wait until it takes jobs; one that is slow to answer is down again."""

        def takes_jobs():
            state = self.ask("sinfo", "-hN", "-p", "main", "-n", node, "-o", "%T").strip()
            if state.startswith("down"):
                self.ask("scontrol", "update", f"nodename={node}", "state=resume")
            return state in ("idle", "mixed", "allocated")

        self.start_node(node)
        wait_until(takes_jobs)

    def hurry(self):
        """Start what was run again at once; Slurm waits two minutes. Whether there was such a job."""
        jobs = [line.split() for line in self.ask("squeue", "-h", "-o", "%A %r").splitlines()]
        again = [job for job, reason in jobs if reason == "BeginTime"]
        for job in again:
            self.ask("scontrol", "update", f"jobid={job}", "starttime=now")
        return bool(again)

    def processes(self):
        """All that was started under this configuration: daemons, steps and jobs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # A step's daemon writes its title over its environment, and stays in the folder of slurmd.
                is_step = process.name() == "slurmstepd" and process.cwd() == str(self.folder)
                if is_step or process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    found.append(process)
        return found

    def stop(self):
        found = self.processes()
        while found:  # what dies may have started something meanwhile
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(found, timeout=10)
            found = self.processes()
        shutil.rmtree(self.folder)

    def _start(self, *words):
        with (self.folder / "daemons.log").open("ab") as log:
            subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )


@pytest.fixture(scope="session")
def slurm():
    missing = [name for name in DAEMONS if not shutil.which(name)]
    if missing or os.geteuid():
        pytest.skip(
            f"a Slurm of our own needs root, slurm-wlm and munge; {', '.join(missing) or 'root'} is missing"
        )
    running = Slurm()
    try:
        running.start()
        yield running
    finally:
        running.stop()
