"""`specbench plugins`: which methods there are, and which are broken."""

from __future__ import annotations

from specbench.cli.options import PluginOption


def plugins(plugin: PluginOption = None) -> None:
    """List all methods: ours, other packages', and files given with --plugin."""
    from rich.table import Table
    from rich.text import Text

    from specbench.registry import discover
    from specbench.render import console

    table = Table(header_style="bold")
    for column in ("method", "models", "summary", "source", "version"):
        table.add_column(column, overflow="fold")
    for name, found in discover(plugin or ()).plugins.items():
        method = found.method
        summary = Text(method.summary) if method else Text(f"broken: {found.error}", style="red")
        roles = ", ".join(method.roles) if method else "-"
        table.add_row(Text(name), roles, summary, Text(found.source), found.version)
    console.out.print(table)
