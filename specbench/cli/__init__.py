"""The command line: one module per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from types import ModuleType
from typing import Annotated, Any, NoReturn, TextIO

import typer

from specbench import __version__
from specbench.cli import (
    bundle,
    check_dtype,
    compare,
    distill,
    job,
    leak,
    limits,
    link,
    load,
    models,
    plan,
    plugins,
    profiles,
    prompts,
    recheck,
    replay,
    report,
    reproduce,
    run,
    runs,
    serve,
    show,
    submit,
    sweep,
    trace,
    tune,
    verify,
)
from specbench.cli.app import App
from specbench.cli.options import debugging, examples, show_help
from specbench.errors import ExitCode, SpecbenchError, SpecbenchWarning, described

app = App(
    name="specbench",
    help="Measure whether speculative decoding between an edge device and the cloud pays.",
    epilog=examples("specbench run speculative", "specbench compare latest --details"),
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "Measure": (run, sweep, tune, load, submit),
    "Read and check": (
        compare,
        report,
        show,
        runs,
        bundle,
        recheck,
        reproduce,
        leak,
        check_dtype,
        limits,
        verify,
    ),
    "Predict": (trace, replay, plan),
    "Take apart": (serve, link),
    "Make and look up": (distill, models, profiles, prompts, plugins),
}
"""Modules by panel of the help. Each holds a function of its own name and `EXAMPLES`, or an `app`."""
for panel, modules in GROUPS.items():
    for module in modules:
        word = module.__name__.rpartition(".")[2]
        if hasattr(module, "app"):
            app.add_typer(module.app, name=word, rich_help_panel=panel)
        else:
            command = app.command(
                word.replace("_", "-"), rich_help_panel=panel, epilog=examples(*module.EXAMPLES)
            )
            command(getattr(module, word))
app.command("job", hidden=True)(job.job)


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

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if not issubclass(category, SpecbenchWarning):
            as_before(message, category, filename, lineno, file, line)
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


def _usage_error(error: Any) -> SpecbenchError:
    """`error` is click's UsageError, or that of Typer's own copy of click, as its version has it."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "specbench"
    message = error.format_message().strip().rstrip(".")
    return SpecbenchError(f"{message[:1].lower()}{message[1:]}", _way_out(error) or f"see '{command} --help'")


def _way_out(error: Any) -> str | None:
    """For an option that another command has, the option by which this one takes the same value."""
    asked = getattr(error, "option_name", None)
    options = {name for param in error.ctx.command.params for name in param.opts} if asked else set()
    if asked == "--set" and "--over" in options:
        return "--over sets a value too, such as --over link.rtt_ms=20"
    key = {"--limit": "limit=12", "--max-new-tokens": "max_new_tokens=64", "--repeats": "repeats=3",
           "--restarts": "restarts=3", "--prompts": "prompts=FILE"}.get(asked or "")  # fmt: skip
    return f"pass it as --set workload.{key}" if key and "--set" in options else None


def _print_error(error: SpecbenchError) -> None:
    from specbench.render.console import print_error

    print_error(error)
