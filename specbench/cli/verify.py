"""`specbench verify`: is a server lossless, steady, fast, and are its figures true?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, argument, option
from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from specbench.servers.base import Server
    from specbench.verify.records import Result

EXAMPLES = (
    "specbench verify http://127.0.0.1:8080 --against http://127.0.0.1:8081",
    "specbench verify http://127.0.0.1:8080 --samples 300",
)
KINDS = "llama.cpp, vllm, sglang (experimental), transformers, openai, openai-chat"


def verify(
    url: Annotated[
        str | None, argument("[URL]", "Address of the server, such as http://127.0.0.1:8080.")
    ] = None,
    against: Annotated[
        str | None,
        option(
            "--against",
            "Server to compare with, such as one without speculation (default: the server itself).",
            "URL",
        ),
    ] = None,
    against_profile: Annotated[
        str | None,
        option(
            "--against-profile",
            "Compare with the target of this profile, which runs here, instead of with a server.",
            "NAME|FILE",
        ),
    ] = None,
    server: Annotated[
        str | None, option("--server", f"Interface of the server: {KINDS} (default: asked).", "KIND")
    ] = None,
    against_server: Annotated[
        str | None, option("--against-server", "The same for --against (default: asked).", "KIND")
    ] = None,
    model: Annotated[
        str | None, option("--model", "Model to ask for, where the server has several.", "NAME")
    ] = None,
    against_model: Annotated[
        str | None, option("--against-model", "The same for the server of --against.", "NAME")
    ] = None,
    prompts: Annotated[
        str | None,
        option("--prompts", "Prompts, as JSON lines in Spec-Bench format (default: built in).", "FILE"),
    ] = None,
    limit: Annotated[int, option("--limit", "Number of prompts.", "N", min=1)] = 12,
    max_new_tokens: Annotated[int, option("--max-new-tokens", "Tokens per answer, at most.", "N", min=1)] = 64,
    samples: Annotated[
        int,
        option(
            "--samples",
            "Also draw N samples behind each of four prefixes and test their distribution.",
            "N",
            min=0,
        ),
    ] = 0,
    temperature: Annotated[
        float, option("--temperature", "Temperature of the samples.", "T", min=0.01, max=2.0)
    ] = 0.7,
    concurrency: Annotated[
        int, option("--concurrency", "Also measure speed with N requests at a time.", "N", min=1, max=256)
    ] = 1,
    seed: Annotated[int, option("--seed", "Seed of the order and samples.", "N", min=0)] = 0,
    api_key_env: Annotated[
        str | None,
        option(
            "--api-key-env",
            "Environment variable with the server's API key, which is neither shown nor stored.",
            "NAME",
        ),
    ] = None,
    against_api_key_env: Annotated[
        str | None, option("--against-api-key-env", "The same for the server of --against.", "NAME")
    ] = None,
    timeout_s: Annotated[
        float, option("--timeout-s", "Seconds that a server may say nothing.", "S", min=0.1)
    ] = 120.0,
    ca_file: Annotated[
        Path | None, option("--ca-file", "Certificate, in PEM, of the authority to trust.", "FILE")
    ] = None,
    insecure: Annotated[
        bool, option("--insecure", "Accept any certificate, also one that the server signed itself.")
    ] = False,
    show: Annotated[
        str | None, option("--show", "Show a stored verification: its id, or 'latest'.", "ID")
    ] = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Judge an LLM server against another, or against itself: identity, speed, acceptance, distribution.

    Exits with 9 if a difference is no rounding, with 1 if something else is wrong or cannot be known.
    """
    from specbench.verify import store

    if show is not None:
        options.demand_alone("--show", {"URL": url, "--against": against, "--against-profile": against_profile})
        found = store.read(runs_dir, show)
        _print(found, as_json)
        return
    if url is None:
        raise SpecbenchError("verify needs the address of a server", "such as http://127.0.0.1:8080")
    from specbench.benchmark.media_demands import demand_texts
    from specbench.benchmark.workload import read_prompts, stratified
    from specbench.profile.schema import BUILTIN
    from specbench.servers.client import Client, key_of
    from specbench.servers.probing import opened
    from specbench.verify import conclusion
    from specbench.verify.records import Settings
    from specbench.verify.verification import Verification

    options.demand_alone("--against" if against else "", {"--against-profile": against_profile})
    questions = stratified(read_prompts(prompts or BUILTIN), limit)
    demand_texts(questions, "specbench verify")
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
            if work.result.steadiness or work.result.verdicts:
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
