"""`specbench verify`: is a server lossless, steady, fast, and are its figures true?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import RUNS_DIR, JsonOption, RunsDirOption, demand_alone
from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from specbench.servers.base import Server
    from specbench.verify.records import Result

EXAMPLES = (
    "specbench verify http://127.0.0.1:8080 --against http://127.0.0.1:8081",
    "specbench verify http://127.0.0.1:8080 --samples 300",
)
KINDS = "llama.cpp, vllm (experimental), sglang (experimental), transformers, openai, openai-chat"


def verify(
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="Address of the server, such as http://127.0.0.1:8080."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="URL",
            help="Server to compare with, such as one without speculation (default: the server itself).",
        ),
    ] = None,
    against_profile: Annotated[
        str | None,
        typer.Option(
            "--against-profile",
            metavar="NAME|FILE",
            help="Compare with the target of this profile, which runs here, instead of with a server.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="KIND", help=f"Interface of the server: {KINDS} (default: asked)."),
    ] = None,
    against_server: Annotated[
        str | None,
        typer.Option("--against-server", metavar="KIND", help="The same for --against (default: asked)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Model to ask for, where the server has several."),
    ] = None,
    against_model: Annotated[
        str | None,
        typer.Option("--against-model", metavar="NAME", help="The same for the server of --against."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", metavar="FILE", help="Prompts, as JSON lines in Spec-Bench format (default: built in)."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Number of prompts.")] = 12,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", min=1, help="Tokens per answer, at most.")
    ] = 64,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            min=0,
            help="Also draw N samples behind each of four prefixes and test their distribution.",
        ),
    ] = 0,
    temperature: Annotated[
        float,
        typer.Option("--temperature", metavar="T", min=0.01, max=2.0, help="Temperature of the samples."),
    ] = 0.7,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", metavar="N", min=1, max=256, help="Also measure speed with N requests at a time."
        ),
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the order and samples.")] = 0,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            "--api-key-env",
            metavar="NAME",
            help="Environment variable with the server's API key, which is neither shown nor stored.",
        ),
    ] = None,
    against_api_key_env: Annotated[
        str | None,
        typer.Option("--against-api-key-env", metavar="NAME", help="The same for the server of --against."),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", metavar="S", min=0.1, help="Seconds that a server may say nothing."),
    ] = 120.0,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", metavar="FILE", help="Certificate, in PEM, of the authority to trust."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept any certificate, also one that the server signed itself.")
    ] = False,
    show: Annotated[
        str | None,
        typer.Option("--show", metavar="ID", help="Show a stored verification: its id, or 'latest'."),
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Judge an LLM server against another, or against itself: identity, speed, acceptance, distribution.

    Exits with 9 if a difference is no rounding, with 1 if something else is wrong or cannot be known.
    """
    from specbench.verify import store

    if show is not None:
        demand_alone("--show", {"URL": url, "--against": against, "--against-profile": against_profile})
        found = store.read(runs_dir, show)
        _print(found, as_json)
        return
    if url is None:
        raise SpecbenchError("verify needs the address of a server", "such as http://127.0.0.1:8080")
    from specbench.benchmark.workload import read_prompts, stratified
    from specbench.profile.schema import BUILTIN
    from specbench.servers.client import Client, key_of
    from specbench.servers.probing import opened
    from specbench.verify import conclusion
    from specbench.verify.records import Settings
    from specbench.verify.verification import Verification

    demand_alone("--against" if against else "", {"--against-profile": against_profile})
    questions = stratified(read_prompts(prompts or BUILTIN), limit)
    sides = [(url, api_key_env, server, model)]
    if against:
        sides.append((against, against_api_key_env, against_server, against_model))
    clients = [Client(address, key_of(key), timeout_s, ca_file, insecure) for address, key, _, _ in sides]
    try:
        servers: list[Server] = [
            opened(client, kind, name) for client, (_, _, kind, name) in zip(clients, sides, strict=True)
        ]
        if against_profile:
            servers.append(_target_of(against_profile))
        settings = Settings(max_new_tokens, samples, temperature, seed, concurrency)
        work = Verification(servers[0], servers[1] if len(servers) > 1 else None, questions, settings)
        try:
            work.run()
        finally:
            if work.result.verdicts:
                store.write(runs_dir, work.result)
                _print(work.result, as_json)
    finally:
        for client in clients:
            client.close()
    if status := conclusion.exit_status(work.result):
        raise typer.Exit(int(status))


def _print(result: Result, as_json: bool) -> None:
    from specbench.render import console, showing

    showing.show_verifications([result], as_json)
    if not as_json:
        console.note(
            f"verification {result.verify_id}; as a page: specbench report {result.verify_id} --out verify.html"
        )


def _target_of(profile: str) -> Server:
    """A profile's target, prepared to run here."""
    from specbench.benchmark.preparation import prepare
    from specbench.models.confinement import confine
    from specbench.profile import load_profile
    from specbench.registry import discover
    from specbench.results.records import CONTROL
    from specbench.verify.profile_target import ProfileTarget

    loaded = load_profile(profile)
    if loaded.cloud.is_elsewhere:
        raise SpecbenchError(
            f"the target of profile {profile} does not run in this process",
            "add cloud.placement: in_process to a profile of your own that extends it",
        )
    confine(loaded.edge)
    return ProfileTarget(prepare(loaded, [discover().get(CONTROL)], ()).cloud, profile)
