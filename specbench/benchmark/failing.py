"""What is kept of an error that ended a method, or a check."""

from __future__ import annotations

from specbench import blame
from specbench.api import Method
from specbench.benchmark.answering import BrokenContractError
from specbench.errors import SpecbenchError, is_out_of_memory
from specbench.results.records import Failure


def failure_of(method: Method, prompt_id: str | None, error: Exception, answering: object) -> Failure:
    """The record of an error that ended a method.

    Args:
        answering: what was yielding rounds: where it waits is the line that broke the contract.
    """
    if isinstance(error, BrokenContractError):
        place = blame.place_in(answering, method.__module__)
    else:
        place = blame.place_of(error, method.__module__)
    return Failure(method.name, prompt_id, reason_of(error, place), blame.traceback_of(error))


def reason_of(error: Exception, place: str | None = None) -> str:
    """One line for an error; where memory ran out, it names the way out.

    Args:
        place: where it came from; the line that raised it when absent.
    """
    lines = blame.printable(str(error)).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if is_out_of_memory(error):
        return f"out of memory ({text}); try --profile memory_optimized, or a smaller model or budget"
    if isinstance(error, SpecbenchError):
        return blame.printable(error.message)
    place = place or (None if isinstance(error, BrokenContractError) else blame.place_of(error, ""))
    return f"{text} ({place})" if place else text
