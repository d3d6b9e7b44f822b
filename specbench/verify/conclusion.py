"""What follows from a verification: its sentence, and the exit status of the command."""

from __future__ import annotations

from specbench.errors import ExitCode
from specbench.verify.prompts import IDS
from specbench.verify.records import DIFFERS, SAME, TIE, UNPROVEN, Result


def exit_status(result: Result) -> ExitCode:
    """9 where the server is not lossless, 7 where it was lost, 1 where something is wrong or unproven."""
    if result.count(DIFFERS) or any(each.found for each in result.shifts):
        return ExitCode.IDENTITY
    if result.stopped:
        return ExitCode.RUN
    doubts = result.count(UNPROVEN) or result.all_faults
    return ExitCode.CHECK_FAILED if doubts else ExitCode.OK


def statement(result: Result) -> str:
    """The verdict as one sentence."""
    whom = result.against.url if result.against else "itself"
    who, asked = result.server.url, len(result.verdicts)
    if not asked:
        return f"no verdict on {who}: {result.stopped or 'nothing was asked'}"
    counts = {verdict: result.count(verdict) for verdict in (SAME, TIE, DIFFERS, UNPROVEN)}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    by = f"{asked} prompt{'' if asked == 1 else 's'} compared by {result.compared}: {told}"
    if result.stopped:
        by = f"{by}, then it was stopped: {result.stopped}"
    shifted = [each for each in result.shifts if each.found]
    if counts[DIFFERS]:
        causes = list(dict.fromkeys(each.cause for each in result.verdicts if each.verdict == DIFFERS))
        return f"{who} does not say what {whom} says ({by}): it {'; it '.join(str(each) for each in causes)}"
    if shifted:
        return f"{who} samples another distribution ({shifted[0].of}; {by})"
    if counts[UNPROVEN]:
        return f"no verdict on {who}: answers differ, and nothing shows whether by rounding ({by})"
    beyond = " beyond rounding" if counts[TIE] else ""
    weak = "" if result.compared == IDS else f"; {result.compared} can hide a difference that token ids show"
    if result.against is None:
        word = "is deterministic" if not counts[TIE] else "varies by rounding alone"
        return f"{who} {word} ({by}{weak})"
    return f"{who} says what {whom} says: no difference{beyond} ({by}{weak})"
