"""`specbench plugins`: which methods there are, what each takes, and a package to begin one with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.app import App, Group
from specbench.cli.options import PluginOption, examples
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    import click

    from specbench.method import Method


class NamesToo(Group):
    """`specbench plugins NAME` is `specbench plugins show NAME`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names, or `show`."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = App(
    cls=NamesToo,
    help="List methods, show one, write a new one, or test one.",
    epilog=examples("specbench plugins", "specbench plugins show speculative"),
)


@app.callback()
def plugins(context: typer.Context, plugin: PluginOption = None) -> None:
    """List all methods: shipped ones, those of other packages, and those of --plugin files."""
    context.obj = list(plugin or ())
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table
    from rich.text import Text

    from specbench.registry import discover
    from specbench.render import console

    table = Table(header_style="bold")
    for column in ("method", "models", "summary", "source", "version"):
        table.add_column(column, overflow="fold")
    for name, found in discover(context.obj).plugins.items():
        method = found.method
        summary = Text(method.summary) if method else Text(f"broken: {found.error}", style="red")
        roles = ", ".join(method.roles) if method else "-"
        table.add_row(Text(name), roles, summary, Text(found.source), found.version)
    console.out.print(table)


@app.command("show", epilog=examples("specbench plugins show speculative"))
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="METHOD", help="Name of a method.")],
    plugin: PluginOption = None,
) -> None:
    """Show one method and its options. 'specbench plugins METHOD' does the same."""
    from rich.table import Table
    from rich.text import Text

    from specbench.registry import discover
    from specbench.render import console

    registry = discover([*context.obj, *(plugin or ())])
    method = registry.get(name)
    console.out.print(Text(f"{method.name}: {method.summary}"))
    console.out.print(Text(f"models: {', '.join(method.roles)}; from {registry.plugins[method.name].source}"))
    if not method.settings.model_fields:
        console.out.print("This method has no options of its own.")
        return
    table = Table(header_style="bold")
    for column in ("option", "type", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for row in _options(method):
        table.add_row(*map(Text, row))
    console.out.print(table)


def _options(method: Method) -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning of each option of a method's own."""
    import json

    schema = method.settings.model_json_schema()
    defaults = method.settings().model_dump(mode="json")
    return [
        (
            f"methods.{method.name}.{name}",
            _kind(known),
            json.dumps(defaults[name]),
            known.get("description", ""),
        )
        for name, known in schema["properties"].items()
    ]


LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "pattern": "that matches {}",
}


def _kind(known: dict) -> str:
    """A type of JSON schema in words."""
    if "anyOf" in known:
        return " or ".join(map(_kind, known["anyOf"]))
    if "enum" in known:
        return ", ".join(map(str, known["enum"]))
    limits = [words.format(known[key]) for key, words in LIMITS.items() if key in known]
    return " ".join([str(known.get("type", "any value")), *limits])


@app.command("new", epilog=examples("specbench plugins new my_method --in ."))
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the method: letters, digits, underscores.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--in", metavar="DIR", help="Folder for the package (default: the current one)."),
    ] = None,
) -> None:
    """Write a package with a working method, its contract tests and a README."""
    from specbench.render import console
    from specbench.template import write_package

    written = write_package(name, folder or Path())
    console.out.print(f"wrote {written}", markup=False, soft_wrap=True)
    console.note(f"next: pip install -e {written} && specbench run {name.replace('-', '_')}")


@app.command("test", epilog=examples("specbench plugins test my_method.py"))
def test(
    plugin: Annotated[str, typer.Argument(metavar="FILE|METHOD", help="Plugin file, or name of a method.")],
) -> None:
    """Run the contract tests on every method of a plugin. Exits with 1 if one fails."""
    from specbench.registry import discover
    from specbench.render import console
    from specbench.testing import checks

    is_file = plugin.endswith(".py")
    registry = discover([Path(plugin)] if is_file else [])
    if is_file:
        brought = [each for each in registry.plugins.values() if each.source == plugin]
        methods = [each.method or registry.get(each.name) for each in brought]
    else:
        methods = [registry.get(plugin)]
    failed = 0
    for method in methods:
        for title, problem in checks(method):
            failed += problem is not None
            console.out.print(
                f"{'failed' if problem else 'ok':6} {method.name}: {title}{f': {problem}' if problem else ''}",
                markup=False,
                soft_wrap=True,
            )
    if failed:
        raise SpecbenchError(
            f"{failed} check{'' if failed == 1 else 's'} failed",
            "docs/reference/method-api.md lists what a method must do",
            ExitCode.CHECK_FAILED,
        )
