"""`specbench plugins`: which methods there are, what each takes, and a package to begin one with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from specbench.cli import options
from specbench.cli.app import App, Group
from specbench.cli.options import argument, examples, option
from specbench.errors import ExitCode, SpecbenchError


class NamesToo(Group):
    """`specbench plugins NAME` is `specbench plugins show NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the first word names, or `show`."""
        # Any, because these are click's types or those of Typer's own copy of click, as its version has it.
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = App(
    cls=NamesToo,
    help="List methods, show one, write a new one, or test one.",
    epilog=examples("specbench plugins", "specbench plugins show speculative"),
)


@app.callback()
def plugins(context: typer.Context, plugin: options.PluginOption = None) -> None:
    """List all methods: shipped ones, those of other packages, and those of --plugin files."""
    context.obj = list(plugin or ())
    if context.invoked_subcommand is not None:
        return
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.methods import methods_table

    console.out.print(methods_table(discover(context.obj)))


@app.command("show", epilog=examples("specbench plugins show speculative"))
def show(
    context: typer.Context,
    name: Annotated[str, argument("METHOD", "Name of a method.")],
    plugin: options.PluginOption = None,
) -> None:
    """Show one method and its options. 'specbench plugins METHOD' does the same."""
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.methods import method_parts

    registry = discover([*context.obj, *(plugin or ())])
    method = registry.get(name)
    for part in method_parts(method, registry.plugins[method.name].source):
        console.out.print(part)


@app.command("new", epilog=examples("specbench plugins new my_method --in ."))
def new(
    name: Annotated[str, argument("NAME", "Name of the method: letters, digits, underscores.")],
    folder: Annotated[
        Path | None, option("--in", "Folder for the package (default: the current one).", "DIR")
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
    plugin: Annotated[str, argument("FILE|METHOD", "Plugin file, or name of a method.")],
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
