"""A job on two nodes: one serves the target, the other is the edge, and both end together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from specbench.benchmark.child_process import Ended, run_to_end
from specbench.benchmark.job import Job
from specbench.cloud.server_process import CloudProcess
from specbench.errors import ExitCode, RunError, SpecbenchError
from specbench.profile import Profile
from specbench.profile.loading import validated, with_changes

EDGE = "edge.json"
SECOND_NODE = "SLURM_JOB_NODELIST_HET_GROUP_1"
ANYWHERE = "0.0.0.0"
# What the batch shell says of this node; srun would ask the other one for it, and a step gets all by itself.
OF_THIS_NODE = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_GPUS_PER_NODE")
KILLED = 128 + signal.SIGKILL


def demand_for_two_nodes(profile: Profile) -> None:
    """Refuse settings that a job on two nodes does not support.

    Raises:
        SpecbenchError: naming the setting.
    """
    cloud, kind = profile.cloud, profile.link.kind
    obstacles = {
        f"cloud.backend is {cloud.backend}": cloud.backend != "transformers",
        f"cloud.placement is {cloud.placement}": cloud.is_elsewhere,
        f"cloud.on_cloud_loss is {cloud.on_cloud_loss}": cloud.on_cloud_loss != "fail",
        f"link.kind is {kind}": kind == "emulated",
    }
    found = [setting for setting, is_one in obstacles.items() if is_one]
    if profile.cluster.cloud and found:
        raise SpecbenchError(
            f"cluster.cloud serves the target on the job's second node, but {found[0]}",
            "add --set cluster.cloud=null, or drop that setting",
        )


def serve_and_run(job: Job, folder: Path) -> Ended:
    """Serve the target of a job's profile on the second node, and make the run against it on this one.

    The server has a token that only this user can read. It ends with its standard input, so with this process.

    Args:
        folder: gets the token and the edge's job, and must be seen from both nodes.

    Returns:
        how the run ended: as one that was killed where the server was lost under it.

    Raises:
        SpecbenchError: this is no such job, or the server does not start.
    """
    node = os.environ.get(SECOND_NODE)
    if not node:
        raise SpecbenchError(
            "this is not a job of two nodes", "'specbench submit' makes one where cluster.cloud is set"
        )
    loaded = validated(Profile, job.profile, f"profile {job.profile_name}")
    cpus = loaded.cluster.cloud.cpus if loaded.cluster.cloud else None
    srun = [
        "env",
        *(f"--unset={name}" for name in OF_THIS_NODE),
        "srun",
        "--het-group=1",
        "--ntasks=1",
        "--unbuffered",
        *([f"--cpus-per-task={cpus}"] if cpus else []),
    ]
    served = loaded.model_dump(
        mode="json",
        exclude={
            "edge": {"threads", "cpus", "memory_limit"},
            "cloud": {"placement", "token_file", "on_cloud_loss"},
            "link": True,
        },
    )
    cloud = CloudProcess(served, loaded.cloud.threads, ANYWHERE, launcher=srun, folder=folder)
    try:
        url = f"ws://{address_of(node)}:{cloud.url.rpartition(':')[2]}"
        place = {"cloud.placement": url, "cloud.token_file": str(cloud.token_file)}
        edge = with_changes(loaded, settings=place).model_dump(mode="json")
        ended = run_to_end(replace(job, profile=edge), folder / EDGE, stderr=None)
        if ended.code == ExitCode.RUN and not cloud.is_alive:  # another job may fare better
            return Ended("interrupted", KILLED, "the server was lost")
        return ended
    finally:
        cloud.stop()


def address_of(node: str) -> str:
    """The address by which Slurm reaches a node.

    Raises:
        SpecbenchError: it does not say.
    """
    words = ["scontrol", "--oneliner", "show", "node", node]
    done = subprocess.run(words, capture_output=True, errors="replace", check=False)
    found = re.search(r"\bNodeAddr=(\S+)", done.stdout)
    if not found:
        raise RunError(f"Slurm names no address of node {node}: {done.stderr.strip()}")
    return found[1]
