"""`specbench serve`: the cloud model, for edges elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import ProfileOption, SetOption
from specbench.errors import ExitCode, RanksLostError, SpecbenchError

if TYPE_CHECKING:
    import ssl

    from specbench.cloud import CloudModel
    from specbench.cloud.server.server import Server
    from specbench.engine.ranks import Ranks
    from specbench.profile import Batch, Profile

LOOPBACK = "127.0.0.1"


EXAMPLES = (
    "specbench serve --profile default",
    "specbench serve --host 0.0.0.0 --token-file token --tls-cert cert.pem --tls-key key.pem",
)


def serve(
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Address to listen on; all but loopback need --token-file."
        ),
    ] = LOOPBACK,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 lets the system choose one."
        ),
    ] = 8470,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File with the token that edges must present."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="TLS certificate chain, as PEM.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Private key of the certificate, as PEM.")
    ] = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="Also serve the profile's edge model, for speculative_colocated.")
    ] = False,
    max_sessions: Annotated[
        int, typer.Option("--max-sessions", metavar="N", min=1, help="Edges served at the same time.")
    ] = 8,
    stop_with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", hidden=True)] = False,
) -> None:
    """Serve the profile's cloud model to edges until Ctrl-C. Prints the address to stdout."""
    if stop_with_stdin:
        from specbench.cloud.rank_processes import (
            remove_traces,  # here: two threads that import at once may deadlock
        )

        threading.Thread(target=_end_with_stdin, args=(remove_traces,), daemon=True).start()
    from specbench.cloud.transport.token import read_token
    from specbench.profile import load_profile

    token = read_token(token_file) if token_file else None
    if token is None and not _is_loopback(host):
        raise SpecbenchError(
            f"other machines can reach {host}, and no token protects the server", "add --token-file FILE"
        )
    tls = _tls(tls_cert, tls_key)
    loaded = _served(load_profile(profile, overrides or ()))
    if loaded.threads is not None:  # torch reads it when it starts
        os.environ["OMP_NUM_THREADS"] = str(loaded.threads)
    if loaded.cloud.ranks > 1 and loaded.cloud.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # transformers splits over CUDA devices where it sees any
    from specbench.benchmark.preparation import configure_torch
    from specbench.cloud import CloudModel, EdgeModel
    from specbench.cloud.served import Served
    from specbench.cloud.server.server import Server
    from specbench.cloud.split import SplitCloudModel
    from specbench.render import console

    configure_torch(loaded)
    kind = SplitCloudModel if loaded.cloud.ranks > 1 else CloudModel
    cloud = kind(loaded.cloud, loaded.engine, loaded.precision.allow_tf32)
    with closing(cloud):
        if isinstance(cloud, SplitCloudModel) and cloud.rank:
            cloud.follow()
            return
        if draft:  # loaded when a method first asks for it
            cloud.draft = EdgeModel(loaded.edge, loaded.engine)
        served = Served(cloud)
        facts = served.facts
        here = facts.profile
        ranks = f" on each of {here.ranks} ranks" if here.ranks > 1 else ""
        console.note(f"{facts.model}: {here.dtype}, {facts.engine} engine, {here.threads} threads{ranks}")
        if token and tls is None and not _is_loopback(host):
            console.note("the token is sent unencrypted; encrypt it with --tls-cert and --tls-key")
        batch = loaded.cloud.batch
        if batch.sessions > 1:
            _demand_sharing(cloud, batch)
        server = Server(served, token, max_sessions, batch=batch)
        _listen(server, host, port, tls, cloud.ranks if isinstance(cloud, SplitCloudModel) else None)


def _demand_sharing(cloud: CloudModel, batch: Batch) -> None:
    """Refuse a model that cannot batch sequences.

    Raises:
        SpecbenchError: with the reason.
    """
    from specbench.engine.batch import obstacle
    from specbench.render import console

    if reason := obstacle(cloud.engine):
        raise SpecbenchError(
            f"{cloud.spec.model} cannot batch sequences: {reason}",
            "pass --set cloud.batch.sessions=1",
            ExitCode.MODEL,
        )
    console.note(f"batching up to {batch.sessions} edges per pass; the wait is at most {batch.wait_ms:g} ms")


def _served(profile: Profile) -> Profile:
    """The profile as the server sees it: the cloud is here, and no edge."""
    if profile.cloud.backend == "vllm":
        raise SpecbenchError(
            "cloud.backend is vllm, which is a server of its own",
            "start it with: vllm serve MODEL (docs/how-to/vllm.md)",
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


def _end_with_stdin(remove_traces: Callable[[], None]) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold at an exit: Python aborts then
        pass
    remove_traces()
    os._exit(int(ExitCode.OK))  # whoever started this is gone, and nothing here is worth keeping


def _listen(server: Server, host: str, port: int, tls: ssl.SSLContext | None, ranks: Ranks | None) -> None:
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


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
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
