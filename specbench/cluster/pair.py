"""A job of two nodes: the target is served on one, the edge is the other, and both end together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from specbench.config import Profile, load_profile
from specbench.errors import ExitCode, SpecbenchError
from specbench.wire.process import CloudProcess

SECOND_NODE = "SLURM_JOB_NODELIST_HET_GROUP_1"
ANYWHERE = "0.0.0.0"
# What the batch shell says of this node; srun would ask the other one for it, and a step gets all by itself.
OF_THIS_NODE = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_GPUS_PER_NODE")
KILLED = 128 + signal.SIGKILL


def demand_for_two_nodes(profile: Profile) -> None:
    """Refuse what cannot be on a job's two nodes; a profile for one node passes.

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
            f"cluster.cloud has the job serve the target on its second node, and {found[0]}",
            "add --set cluster.cloud=null, or drop that setting",
        )


def serve_and_run(profile: Path, words: Sequence[str]) -> int:
    """Serve the profile's target on the job's second node, and run a command against it on this one.

    The server has a token that only this user can read. It ends with its standard input, so with this process.

    Args:
        profile: the file's folder gets the token, and must be seen from both nodes.
        words: of a `run`; where the cloud is, is added.

    Returns:
        the command's exit status; that of a killed one where the server was lost under it.

    Raises:
        SpecbenchError: this is no such job, or the server does not start.
    """
    node = os.environ.get(SECOND_NODE)
    if not node:
        raise SpecbenchError(
            "this is no job of two nodes", "'specbench submit' makes one where cluster.cloud is set"
        )
    loaded = load_profile(str(profile))
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
    folder = profile.parent.resolve()
    cloud = CloudProcess(served, loaded.cloud.threads, ANYWHERE, launcher=srun, folder=folder)
    try:
        url = f"ws://{address_of(node)}:{cloud.url.rpartition(':')[2]}"
        place = ["--set", f"cloud.placement={url}", "--set", f"cloud.token_file={cloud.token_file}"]
        done = subprocess.run([sys.executable, "-m", "specbench", *words, *place], check=False)
        if done.returncode == ExitCode.RUN and not cloud.is_alive:
            return KILLED  # another job may fare better, though nothing is stored yet
        return done.returncode if done.returncode >= 0 else 128 - done.returncode
    finally:
        cloud.stop()


def address_of(node: str) -> str:
    """Where Slurm itself reaches a node.

    Raises:
        SpecbenchError: it does not say.
    """
    words = ["scontrol", "--oneliner", "show", "node", node]
    done = subprocess.run(words, capture_output=True, errors="replace", check=False)
    found = re.search(r"\bNodeAddr=(\S+)", done.stdout)
    if not found:
        raise SpecbenchError(
            f"Slurm names no address of node {node}: {done.stderr.strip()}", None, ExitCode.RUN
        )
    return found[1]
