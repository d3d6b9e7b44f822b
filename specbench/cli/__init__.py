"""The command line: one module per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from specbench import __version__
from specbench.cli import check_dtype, compare, models, plugins, profiles, run
from specbench.errors import ExitCode, SpecbenchError

DEBUG_VARIABLE = "SPECBENCH_DEBUG"
INTERNAL_ERROR = 70

app = typer.Typer(
    name="specbench",
    help="Does speculative decoding between an edge device and the cloud pay, all else being equal?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("check-dtype")(check_dtype.check_dtype)
app.command("plugins")(plugins.plugins)
app.add_typer(profiles.app, name="profiles")
app.add_typer(models.app, name="models")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"specbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of every command."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> None:
    """Run the command line; every error becomes one sentence and an exit code."""
    try:
        app()
    except SpecbenchError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _print_error(error)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.INTERRUPTED))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.OK))
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        _print_error(
            SpecbenchError(
                f"internal error: {type(error).__name__}: {first}",
                "this is a fault of specbench; 'specbench --debug ...' shows where",
            )
        )
        sys.exit(INTERNAL_ERROR)


def _print_error(error: SpecbenchError) -> None:
    from specbench.render.console import print_error

    print_error(error)
