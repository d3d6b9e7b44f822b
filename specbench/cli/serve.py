"""`specbench serve`: the cloud model, for edges elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import option

LOOPBACK = "127.0.0.1"
EXAMPLES = (
    "specbench serve --profile default",
    "specbench serve --host 0.0.0.0 --token-file token --tls-cert cert.pem --tls-key key.pem",
)


def serve(
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    host: Annotated[
        str, option("--host", "Address to listen on; all but loopback need --token-file.", "ADDRESS")
    ] = LOOPBACK,
    port: Annotated[
        int, option("--port", "Port to listen on; 0 lets the system choose one.", "N", min=0, max=65535)
    ] = 8470,
    token_file: Annotated[
        Path | None, option("--token-file", "File with the token that edges must present.", "FILE")
    ] = None,
    tls_cert: Annotated[Path | None, option("--tls-cert", "TLS certificate chain, as PEM.", "FILE")] = None,
    tls_key: Annotated[
        Path | None, option("--tls-key", "Private key of the certificate, as PEM.", "FILE")
    ] = None,
    draft: Annotated[
        bool, option("--draft", "Also serve the profile's edge model, for speculative_colocated.")
    ] = False,
    max_sessions: Annotated[int, option("--max-sessions", "Edges served at the same time.", "N", min=1)] = 8,
    stop_with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", hidden=True)] = False,
    pipe: Annotated[int | None, typer.Option("--pipe", hidden=True)] = None,
) -> None:
    """Serve the profile's cloud model to edges until Ctrl-C. Prints the address to stdout."""
    from specbench.benchmark.preparation import configure_torch
    from specbench.cloud.server import serving
    from specbench.cloud.transport.token import read_token
    from specbench.profile import load_profile

    if stop_with_stdin:
        serving.end_with_stdin()
    token = read_token(token_file) if token_file else None
    serving.demand_guarded(host, token)
    tls = serving.tls_context(tls_cert, tls_key)
    loaded = serving.served_profile(load_profile(profile, overrides or ()))
    serving.set_environment(loaded)
    configure_torch(loaded)
    serving.serve(loaded, host, port, token=token, tls=tls, draft=draft, max_sessions=max_sessions, pipe=pipe)
