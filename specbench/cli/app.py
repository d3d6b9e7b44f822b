"""What all commands share: a help without Python's types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _PlainTypes:
    """Leaves Python's types out of help: that of flags, and those of arguments."""

    def get_params(self, ctx: Any) -> list:
        """The parameters, those of Typer's own included."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
            elif param.param_type_name == "argument":
                param.display_type_rich = lambda ctx: ""
        return params


class Command(_PlainTypes, TyperCommand):
    """One command."""


class Group(_PlainTypes, TyperGroup):
    """A command that has others below it."""


class App(typer.Typer):
    """A group of commands, which shows its help where it is called alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"cls": Group, "invoke_without_command": True, **settings})

    def command(self, name: str | None = None, **settings: Any) -> Callable:
        """As Typer's."""
        return super().command(name, **{"cls": Command, **settings})
