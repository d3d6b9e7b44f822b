"""The one error type that a user sees, and the exit codes that scripts rely on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of the command line; listed in docs/reference/exit-status.md."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    PROFILE = 3
    MODEL = 4
    STORE = 5
    PLUGIN = 6
    RUN = 7
    UNFAIR = 8
    IDENTITY = 9
    INTERRUPTED = 130
    CLOSED_PIPE = 141


class SpecbenchError(Exception):
    """Something that the user can fix.

    Args:
        message: one sentence that names the thing and the reason.
        hint: the way out, as one sentence or command.
        exit_code: what the command line exits with, if not what this kind of error means; above 128 where a
            signal is the reason.
    """

    default_code = ExitCode.USAGE

    def __init__(self, message: str, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = self.default_code if exit_code is None else exit_code


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Begin the message of what goes wrong within by its place, such as `prompt 7`."""
    try:
        yield
    except SpecbenchError as error:
        raise SpecbenchError(f"{place}: {error.message}", error.hint, error.exit_code) from error


class ModelError(SpecbenchError):
    """A model that is missing, damaged, or cannot run here."""

    default_code = ExitCode.MODEL


class ProfileError(SpecbenchError):
    """A profile that is missing, or asks for what cannot be."""

    default_code = ExitCode.PROFILE


class StoreError(SpecbenchError):
    """Runs, traces or other files that cannot be read or written, or are damaged."""

    default_code = ExitCode.STORE


class RunError(SpecbenchError):
    """What ended a run."""

    default_code = ExitCode.RUN


class SpecbenchWarning(UserWarning):
    """What the command line says on stderr and goes on."""


class CloudLostError(SpecbenchError):
    """The cloud is gone, and did not come back."""


class RanksLostError(RunError):
    """A rank of a split model is gone, or out of step: none of its passes can be made any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "start the cloud again")


LESS_MEMORY = "try a smaller model or budget, or the profile memory_optimized, which offloads the target"
INTERNAL_ERROR = 70


def described(error: Exception) -> SpecbenchError:
    """Any error as a user sees it: what failed, the way out, and an exit code."""
    if isinstance(error, SpecbenchError):
        return error
    name, line = type(error).__name__, next(iter(str(error).strip().splitlines()), "")
    if is_out_of_memory(error):
        return SpecbenchError(f"out of memory ({name}: {line})", LESS_MEMORY, ExitCode.MODEL)
    return SpecbenchError(
        f"internal error: {name}: {line}",
        "please report it, with the output of 'specbench --debug ...'",
        INTERNAL_ERROR,
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch on a device, or torch's CPU allocator found no room."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error)


def nearest(name: str, valid: Iterable[str], otherwise: str | None = None, prefix: str = "") -> str | None:
    """A hint that names the valid name closest to `name`, or lists them all.

    Args:
        prefix: what stands before all of these names, and is no part of what is compared.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean '{prefix}{close[0]}'?"
    return otherwise or (f"valid names: {', '.join(prefix + each for each in names)}" if names else None)
