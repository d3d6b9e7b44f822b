"""`specbench models`: the models that need no hub."""

from __future__ import annotations

from typing import Annotated

import typer

from specbench.cli.app import App
from specbench.cli.options import argument, examples, option

app = App(
    help="List models that need no hub, or fetch one.",
    epilog=examples("specbench models", "specbench models pull smollm2-135m-instruct"),
)


@app.callback()
def models(context: typer.Context) -> None:
    """List the embedded models."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list", epilog=examples("specbench models list"))
def list_models() -> None:
    """List the embedded models and the folders that hold them."""
    from rich.text import Text

    from specbench.models import embedded, shipped
    from specbench.render import console
    from specbench.render.fitting import folding

    table = folding("model", "fetched", "size", "license", "source", "folder")
    for model in embedded.EMBEDDED.values():
        folder = embedded.folder_of(model)
        fetched = embedded.provenance(folder) is not None
        table.add_row(
            f"{embedded.PREFIX}{model.name}",
            "yes" if fetched else "no",
            "-" if fetched else f"{model.wheel_bytes / 1e6:.0f} MB to fetch",
            model.license,
            Text(model.source),
            Text(str(folder), overflow="fold"),
        )
    for name in shipped.names():
        table.add_row(
            f"{embedded.PREFIX}{name}", "shipped", "-", "Apache-2.0", "made by specbench distill; see its card",
            Text(str(shipped.folder_of(name)), overflow="fold"),
        )  # fmt: skip
    console.out.print(table)


@app.command("pull", epilog=examples("specbench models pull smollm2-135m-instruct"))
def pull(
    name: Annotated[str | None, argument("MODEL", "Name of an embedded model (default: all).")] = None,
    force: Annotated[bool, option("--force", "Fetch and convert again.")] = False,
) -> None:
    """Fetch and convert embedded models before the first run."""
    import shutil

    from specbench.models import embedded, shipped
    from specbench.render import console

    if name and (folder := shipped.folder_of(name.removeprefix(embedded.PREFIX))):
        console.note("the model is shipped with the package; nothing to fetch")
        console.out.print(f"{embedded.PREFIX}{folder.name}: {folder}", markup=False, soft_wrap=True)
        return
    names = [name.removeprefix(embedded.PREFIX)] if name else list(embedded.EMBEDDED)
    for model in [embedded.lookup(each) for each in names]:
        if force:
            shutil.rmtree(embedded.folder_of(model), ignore_errors=True)
        folder = embedded.ensure(model)
        console.out.print(f"{embedded.PREFIX}{model.name}: {folder}", markup=False, soft_wrap=True)
