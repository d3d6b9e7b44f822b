"""`specbench profiles`: what profiles there are, and what one says."""

from __future__ import annotations

from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.app import App
from specbench.cli.options import argument, examples

app = App(
    help="List profiles, or show one.",
    epilog=examples("specbench profiles", "specbench profiles show default"),
)


@app.callback()
def profiles(context: typer.Context) -> None:
    """List the shipped profiles."""
    if context.invoked_subcommand is None:
        from specbench.precision import declared_precision
        from specbench.profile import list_profiles, load_profile
        from specbench.render import console
        from specbench.render.fitting import folding

        table = folding("profile", "edge", "cloud", "prompts", "tokens")
        for name in list_profiles():
            profile = load_profile(name)
            limit = profile.workload.limit
            table.add_row(
                name,
                f"{profile.edge.model} ({declared_precision(profile.edge)})",
                f"{profile.cloud.model} ({declared_precision(profile.cloud)})",
                "all" if limit is None else str(limit),
                str(profile.workload.max_new_tokens),
            )
        console.out.print(table)


@app.command("show", epilog=examples("specbench profiles show default --set link.rtt_ms=20"))
def show(
    name: Annotated[str, argument("NAME|FILE", "Name of a shipped profile, or path of a YAML file.")],
    overrides: options.SetOption = None,
) -> None:
    """Print a profile as YAML, with everything that it extends merged in."""
    import sys

    from specbench.profile import load_profile
    from specbench.profile.yaml_text import as_page

    profile = load_profile(name, overrides or ())
    sys.stdout.write(as_page(profile.model_dump(mode="json")))
