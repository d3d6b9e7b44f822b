"""The cloud model served to edges: from a profile to a server that listens until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.errors import ExitCode, RanksLostError, SpecbenchError

if TYPE_CHECKING:
    import ssl

    from specbench.cloud import CloudModel
    from specbench.cloud.server.piped import PipedEdge
    from specbench.cloud.server.server import Server
    from specbench.engine.ranks import Ranks
    from specbench.profile import Batch, Profile

logger = logging.getLogger(__name__)


def serve(
    profile: Profile,
    host: str,
    port: int,
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    draft: bool = False,
    max_sessions: int = 8,
    pipe: int | None = None,
) -> None:
    """Serve a profile of `served_profile` until SIGINT or SIGTERM, and print the address to stdout.

    Args:
        token: what edges must present; `demand_guarded` says where it is needed.
        draft: also serve the profile's edge model.
        max_sessions: edges at the same time.
        pipe: descriptor of a socket to one edge more, the one that has started this process.

    Raises:
        SpecbenchError: the model cannot be served like that, or the address cannot be listened on.
        RanksLostError: a rank of a split model is gone.
    """
    from specbench.cloud import EdgeModel, LocalCloud
    from specbench.cloud.served import Served
    from specbench.cloud.server.piped import PipedEdge
    from specbench.cloud.server.server import Server
    from specbench.cloud.split import SplitCloudModel

    kind = SplitCloudModel if profile.cloud.ranks > 1 else LocalCloud
    cloud = kind(profile.cloud, profile.engine, profile.precision.allow_tf32)
    with closing(cloud):
        if isinstance(cloud, SplitCloudModel) and cloud.rank:
            cloud.follow()
            return
        if draft:  # loaded when a method first asks for it
            cloud.draft = EdgeModel(profile.edge, profile.engine)
        served = Served(cloud)
        facts = served.facts
        here = facts.profile
        ranks = f" on each of {here.ranks} ranks" if here.ranks > 1 else ""
        logger.info(f"{facts.model}: {here.dtype}, {facts.engine} engine, {here.threads} threads{ranks}")
        if token and tls is None and not is_loopback(host):
            logger.info("the token is sent unencrypted; encrypt it with --tls-cert and --tls-key")
        batch = profile.cloud.batch
        if batch.sessions > 1:
            _demand_batching(cloud, batch)
        server = Server(served, token, max_sessions, batch=batch)
        begin = partial(PipedEdge, served, pipe, server.turn) if pipe is not None else None
        others = cloud.ranks if isinstance(cloud, SplitCloudModel) else None
        _listen(server, host, port, tls, others, begin)


def _demand_batching(cloud: CloudModel, batch: Batch) -> None:
    """Refuse a model that cannot batch sequences.

    Raises:
        SpecbenchError: with the reason.
    """
    from specbench.engine.batch import obstacle

    if reason := obstacle(cloud.engine):
        raise SpecbenchError(
            f"{cloud.spec.model} cannot batch sequences: {reason}",
            "pass --set cloud.batch.sessions=1",
            ExitCode.MODEL,
        )
    logger.info(f"batching up to {batch.sessions} edges per pass; the wait is at most {batch.wait_ms:g} ms")


def served_profile(profile: Profile) -> Profile:
    """The profile as the server sees it: the cloud is here, and no edge."""
    if profile.cloud.backend == "openai":
        raise SpecbenchError(
            "cloud.backend is openai, which is a server of its own",
            "start it with its own program, such as: vllm serve MODEL (docs/how-to/a-server.md)",
        )
    here: dict = {"placement": "in_process", "token_file": None, "on_cloud_loss": "fail"}
    if profile.cloud.ranks > 1 and profile.cloud.threads is None:  # ranks share the processors of a host
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", profile.cloud.ranks))  # torchrun's, of this host
        known = hasattr(os, "sched_getaffinity")  # what a scheduler or a container gives us, not the whole host
        processors = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
        here["threads"] = max(1, processors // ranks)
    cloud = profile.cloud.model_copy(update=here)
    edge = profile.edge.model_copy(update={"threads": None})
    return profile.model_copy(update={"cloud": cloud, "edge": edge})


def demand_guarded(host: str, token: str | None) -> None:
    """Refuse a server that other machines can use without a token.

    Raises:
        SpecbenchError: `host` is not loopback, and there is no token.
    """
    if token is None and not is_loopback(host):
        raise SpecbenchError(
            f"other machines can reach {host}, and no token protects the server", "add --token-file FILE"
        )


def set_environment(profile: Profile) -> None:
    """Set what torch and transformers read when they are imported."""
    if profile.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(profile.threads)
    if profile.cloud.ranks > 1 and profile.cloud.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # transformers splits over CUDA devices where it sees any


def end_with_stdin() -> None:
    """End this process when its standard input ends: whoever started it is gone then."""
    from specbench.cloud.rank_processes import remove_traces  # two threads that import at once may deadlock

    def wait() -> None:
        while os.read(
            0, 4096
        ):  # not sys.stdin, whose lock this thread would hold at an exit: Python aborts then
            pass
        remove_traces()
        os._exit(int(ExitCode.OK))  # nothing here is worth keeping

    threading.Thread(target=wait, daemon=True).start()


def _listen(
    server: Server,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    ranks: Ranks | None,
    begin: Callable[[], PipedEdge] | None,
) -> None:
    import asyncio
    import signal

    async def run() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        if ranks and "RANK" in os.environ:  # torchrun ends all ranks when one fails, and tells them no reason
            reason = "torchrun ended this rank: another rank failed, or the job was stopped"
            loop.add_signal_handler(signal.SIGTERM, ranks.lose, reason)
        if ranks:
            ranks.when_lost(lambda: loop.call_soon_threadsafe(stopped.set))
        async with server.listening(host, port, tls) as chosen:
            name = f"[{host}]" if ":" in host else host
            print(f"{'wss' if tls else 'ws'}://{name}:{chosen}", flush=True)
            with closing(begin()) if begin else contextlib.nullcontext():
                await stopped.wait()
            if ranks and ranks.loss:
                await server.dismiss(ranks.loss)

    try:
        asyncio.run(run())
    except OSError as error:
        raise SpecbenchError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", "choose another --port or --host"
        ) from error
    if ranks and ranks.loss:
        raise RanksLostError(ranks.loss)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other can reach."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS with a certificate chain and its key, as PEM files; `None` without both.

    Raises:
        SpecbenchError: one is missing, or they do not fit.
    """
    if cert is None and key is None:
        return None
    import ssl

    if cert is None or key is None:
        raise SpecbenchError("--tls-cert and --tls-key need each other", "pass both")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise SpecbenchError(
            f"{cert} and {key} are not a certificate and its key: {error}", "both files must be PEM"
        ) from error
    return context
