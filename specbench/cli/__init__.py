"""The command line: one module per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

from specbench import __version__
from specbench.cli import (
    check_dtype,
    compare,
    distill,
    job,
    limits,
    link,
    load,
    models,
    plan,
    plugins,
    profiles,
    replay,
    report,
    run,
    serve,
    submit,
    sweep,
    trace,
)
from specbench.cli.options import debugging, show_help
from specbench.errors import ExitCode, SpecbenchError, SpecbenchWarning, described

app = typer.Typer(
    name="specbench",
    help="Does speculative decoding between an edge device and the cloud pay, all else being equal?",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("check-dtype")(check_dtype.check_dtype)
app.command("distill")(distill.distill)
app.command("limits")(limits.limits)
app.command("trace")(trace.trace)
app.command("replay")(replay.replay)
app.command("sweep")(sweep.sweep)
app.command("plan")(plan.plan)
app.command("serve")(serve.serve)
app.command("load")(load.load)
app.command("job", hidden=True)(job.job)
app.add_typer(plugins.app, name="plugins")
app.add_typer(profiles.app, name="profiles")
app.add_typer(models.app, name="models")
app.add_typer(link.app, name="link")
app.add_typer(submit.app, name="submit")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"specbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SPECBENCH_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of every command."""
    debugging.shows_tracebacks = debug
    show_help(context)


def main() -> None:
    """Run the command line; every error becomes one sentence and an exit code."""
    _show_log()
    _say_warnings()
    _write_anything()
    try:
        status = app(standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else int(ExitCode.OK))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(int(ExitCode.INTERRUPTED))
    except BrokenPipeError:
        _end_unread()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer turns it into a status of its own, 1
            _end_unread()
        raise
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own: a misspelt option, a missing argument
            if not error.format_message():  # a group without a command, whose help it has printed
                sys.exit(int(ExitCode.OK))
            _print_error(_usage_error(error))
            sys.exit(int(ExitCode.USAGE))
        if debugging.shows_tracebacks:
            raise
        told = described(error)
        _print_error(told)
        sys.exit(int(told.exit_code))


class _Stderr(logging.Handler):
    """Prints what is logged on stderr, above a live view while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from specbench.render import console

        console.note(record.getMessage())


def _show_log() -> None:
    """Show what specbench logs of its progress."""
    logger = logging.getLogger("specbench")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())


def _say_warnings() -> None:
    """Our own warnings become a line on stderr; those of others stay as they are."""
    as_before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, SpecbenchWarning):
            as_before(message, category, *place)
            return
        from specbench.render import console

        console.note(f"warning: {message}")

    warnings.showwarning = show


def _write_anything() -> None:
    """Escape what the terminal's encoding lacks: no table is worth a run that it ends."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end_unread() -> NoReturn:
    """Nobody reads stdout any more: end as programs do that a closed pipe ends, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(int(ExitCode.CLOSED_PIPE))


def _usage_error(error: Exception) -> SpecbenchError:
    command = error.ctx.command_path if getattr(error, "ctx", None) else "specbench"
    message = error.format_message().strip().rstrip(".")
    return SpecbenchError(f"{message[:1].lower()}{message[1:]}", f"see '{command} --help'")


def _print_error(error: SpecbenchError) -> None:
    from specbench.render.console import print_error

    print_error(error)
