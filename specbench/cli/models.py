"""`specbench models`: the models that need no hub."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List embedded models, or fetch one.", invoke_without_command=True)


@app.callback()
def models(context: typer.Context) -> None:
    """List the embedded models."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models() -> None:
    """List the embedded models and where they are cached."""
    from rich.table import Table
    from rich.text import Text

    from specbench.models import embedded, shipped
    from specbench.render import console

    table = Table(header_style="bold")
    for column in ("model", "fetched", "size", "license", "source", "folder"):
        table.add_column(column, overflow="fold")
    for model in embedded.EMBEDDED.values():
        folder = embedded.folder_of(model)
        fetched = embedded.provenance(folder) is not None
        table.add_row(
            f"{embedded.PREFIX}{model.name}",
            "yes" if fetched else "no",
            f"{model.wheel_bytes / 1e6:.0f} MB to fetch",
            model.license,
            Text(model.source),
            Text(str(folder), overflow="fold"),
        )
    for name in shipped.names():
        folder = shipped.folder_of(name)
        table.add_row(
            f"{embedded.PREFIX}{name}", "shipped", "-", "Apache-2.0", "made by specbench distill; see its card",
            Text(str(folder), overflow="fold"),
        )  # fmt: skip
    console.out.print(table)


@app.command("pull")
def pull(
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="An embedded model; all of them if absent.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert again.")] = False,
) -> None:
    """Fetch and convert embedded models now, so that a later run does not have to."""
    import shutil

    from specbench.models import embedded, shipped
    from specbench.render import console

    if name and (folder := shipped.folder_of(name.removeprefix(embedded.PREFIX))):
        console.note("it is shipped with the package, and nothing is to be fetched")
        console.out.print(f"{embedded.PREFIX}{folder.name}: {folder}", markup=False, soft_wrap=True)
        return
    names = [name.removeprefix(embedded.PREFIX)] if name else list(embedded.EMBEDDED)
    for model in [embedded.lookup(each) for each in names]:
        if force:
            shutil.rmtree(embedded.folder_of(model), ignore_errors=True)
        folder = embedded.ensure(model)
        console.out.print(f"{embedded.PREFIX}{model.name}: {folder}", markup=False, soft_wrap=True)
