"""A gate for CI: is a method slower than it may be? Decided by the interval, never by the figure alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbench.errors import ExitCode, RunError, SpecbenchError
from specbench.results.records import CONTROL, Run
from specbench.stats.comparison import MODEL_GENERATE
from specbench.stats.notes import WRONG, bugs, chances
from specbench.stats.verdict import FEWEST_PROMPTS, Speedup, speedup

SLOWER, KEPT, UNDECIDED, WRONG_TEXT = "slower", "not slower", "undecided", "wrong text"


@dataclass(frozen=True)
class Gated:
    """One method held against a reference.

    Args:
        run_id: of the method's run.
        reference: the control of that run; or the same method in the first of several runs, each run's times
            divided by its control's, so that a slower moment of the machine is no slower method.
        speed: of the method per token, over that of the reference; ratio of geometric means over prompts.
        interval: 95 % interval of `speed`; `None` below twelve prompts.
        outcome: `slower` when the whole interval lies beyond what is allowed, `not slower` when none of it
            does, else `undecided`, as for a method that the first run lacks; `wrong text` where none counts.
        synthetic: by which chances both accepted drafted tokens, in words; `None` where the target judged them.
    """

    method: str
    run_id: str
    reference: str
    speed: float | None
    interval: tuple[float, float] | None
    prompts: int
    outcome: str
    synthetic: str | None = None


def gate(runs: Sequence[Run], allowed: float) -> list[Gated]:
    """Hold every method of one run against the control, or those of later runs against the first run's.

    Args:
        allowed: how much longer a token may take, as a fraction: 0.05 is 5 %.

    Raises:
        SpecbenchError: a method failed, a run is damaged or has no control, there is nothing to hold, or runs
            differ in their methods, prompts or chances so that a method cannot be held.
    """
    for run in runs:
        for failure in run.manifest.failures:
            raise RunError(f"no gate: {failure.method} failed in run {run.manifest.run_id}: {failure.error}")
        if run.faults:
            raise SpecbenchError(f"no gate: {run.faults[0]}", "restore the file", ExitCode.STORE)
        if not run.of(CONTROL):
            raise SpecbenchError(
                f"no gate: run {run.manifest.run_id} has no answer of the control", "run the method beside it"
            )
    if len(runs) == 1 and (told := chances(runs[0].manifest)):
        raise SpecbenchError(
            f"no gate: run {runs[0].manifest.run_id} has {told}, so nothing is known against the cloud alone",
            "name two runs with the same speculative.synthetic_acceptance, or set it to null",
        )
    for run in runs[1:]:
        _demand_alike(runs[0], run)
    found = list(_found(runs, 1 / (1 + allowed)))
    if not any(each.prompts or each.outcome == WRONG_TEXT for each in found):
        raise SpecbenchError(
            "no gate: there is no method to hold against another",
            "name one run with a method, or two runs with the same one",
        )
    return found


def status(found: Sequence[Gated]) -> ExitCode:
    """What the gate ends with: an outcome that is undecided is no failure."""
    outcomes = {each.outcome for each in found}
    if WRONG_TEXT in outcomes:
        return ExitCode.IDENTITY
    return ExitCode.CHECK_FAILED if SLOWER in outcomes else ExitCode.OK


def in_words(each: Gated, allowed: float) -> str:
    """The outcome as a sentence."""
    who = f"{each.method} of run {each.run_id}"
    more = f"more than {100 * allowed:.3g} % slower than {each.reference}"
    if each.outcome == WRONG_TEXT:
        return f"Gate failed: texts of {who} {WRONG}."
    if each.speed is None:
        return f"Gate undecided, which is no failure: whether {who} is {more}, where it has no answer."
    interval = f" ({each.interval[0]:.2f} to {each.interval[1]:.2f})" if each.interval else ""
    figures = f"{each.speed:.2f} times its speed per token{interval}, {each.prompts} prompts"
    if each.synthetic:
        figures = f"with {each.synthetic}, {figures}"
    if each.outcome == SLOWER:
        return f"Gate failed: {who} is {more}: {figures}."
    if each.outcome == KEPT:
        return f"Gate passed: {who} is not {more}: {figures}."
    way = "--repeats 3 narrows the interval" if each.interval else f"{FEWEST_PROMPTS} are needed (--limit)"
    return f"Gate undecided, which is no failure: whether {who} is {more}: {figures}; {way}."


def _demand_alike(first: Run, run: Run) -> None:
    """Refuse a run that lacks what the first one has, or in which chance accepts otherwise."""
    ids = first.manifest.run_id, run.manifest.run_id
    for method in first.manifest.methods:
        if first.of(method) and not run.of(method):
            raise SpecbenchError(
                f"no gate: run {ids[1]} has no answer of {method}, and run {ids[0]} has",
                "name runs of the same methods",
                ExitCode.UNFAIR,
            )
    before, after = (chances(each.manifest) or "no synthetic acceptance" for each in (first, run))
    if before != after:
        raise SpecbenchError(
            f"no gate: run {ids[0]} has {before}, and run {ids[1]} {after}: that alone makes one faster",
            "name runs with one speculative.synthetic_acceptance",
            ExitCode.UNFAIR,
        )


def _found(runs: Sequence[Run], least: float) -> Iterator[Gated]:
    first, *later = runs
    for run in later or [first]:
        manifest, wrong = run.manifest, bugs(run.manifest)
        for method in manifest.methods:
            if method == CONTROL:
                continue
            if not later and (manifest.lossless[method] is None or method == MODEL_GENERATE):
                continue
            known = speedup(run.of(CONTROL), run.of(method), manifest.restart_repeats)
            reference = f"in run {first.manifest.run_id}" if later else "the cloud alone"
            is_new = bool(later) and not first.of(method)
            if later:
                repeats = first.manifest.restart_repeats
                known = relative(speedup(first.of(CONTROL), first.of(method), repeats), known)
            interval = known.interval
            outcome = UNDECIDED
            if wrong[method] or wrong[CONTROL]:
                outcome = WRONG_TEXT
            elif known.ratio is None and not is_new:
                raise SpecbenchError(
                    f"no gate: {method} of run {manifest.run_id} and {reference} share no prompt with times",
                    "ask both the same prompts (workload.prompts), for two tokens at least",
                    ExitCode.UNFAIR,
                )
            elif interval:
                low, high = interval
                outcome = SLOWER if high < least else KEPT if low >= least else UNDECIDED
            told = chances(manifest)
            yield Gated(
                method, manifest.run_id, reference, known.ratio, interval, len(known.logs), outcome, told
            )


def relative(before: Speedup, after: Speedup) -> Speedup:
    """How a speed-up changed, over the prompts that both runs have, and over restarts where both have them."""
    logs = {name: log - before.logs[name] for name, log in after.logs.items() if name in before.logs}
    earlier = [tuple({name: -log for name, log in one.items()} for one in run) for run in before.restarts]
    restarts = (*earlier, *after.restarts) if before.restarts and after.restarts else ()
    return Speedup(logs, {name: after.category[name] for name in logs}, None, restarts)
