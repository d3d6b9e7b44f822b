"""Bundles as they are printed: made, rechecked, reproduced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from specbench.evidence.agreement import Agreement
from specbench.evidence.claims import Claim, in_words
from specbench.evidence.recheck import Rechecked
from specbench.evidence.reproduce import Reproduced
from specbench.render.cells import bracketed
from specbench.render.fitting import Fitted

MOST_SHOWN = 12
RULES = (
    "A speed-up agrees unless the whole interval of its change lies beyond 3 %. Other figures agree where "
    "their intervals overlap, or, without any, within 3 %; counts and words where they are equal."
)


def bundled(path: Path, size: int, runs: int, claims: Sequence[Claim]) -> Iterator[RenderableType]:
    """What was written."""
    yield Text(f"{path}: {_count(runs, 'run')}, {_count(len(claims), 'claim')}, {size / 1000:,.0f} kB", "bold")
    yield from _claims(claims)
    yield Text("Prompts and answers are in it as they are. Paths, hosts, users and secrets are not.", "dim")


def rechecked(found: Rechecked) -> Iterator[RenderableType]:
    """The claims, every figure that differs, and the answer."""
    yield Text(f"Made by {found.made_by.in_words}, checked by {found.checked_by.in_words}.")
    yield from _claims(found.claims)
    for line in (*found.changed, *(each.in_words for each in found.differences)):
        yield Text(f"differs: {line}", "red")
    figures = f"{_count(found.figures, 'figure')} and {_count(len(found.claims), 'claim')}"
    if found.holds:
        yield Text(f"All {figures} follow from the raw rounds.", "bold")
    else:
        count, files = len(found.differences), _count(len(found.changed), "fault")
        yield Text(
            f"The bundle does not hold: of {figures}, {count:,} differ; {files} in its files.", "bold red"
        )


def reproduced(found: Reproduced) -> Iterator[RenderableType]:
    """Each claim beside what was measured, and what differs between there and here."""
    rows = [
        (
            *(each.claim.id, _value(each.claim), _value(each.here)),
            *("-" if each.change is None else _figure(each.change, each.change_interval), each.outcome),
        )
        for each in found.claims
    ]
    styles = ["red" if each.agrees is False else None for each in found.claims]
    yield Fitted(("claim",), ("claimed", "here", "change", "outcome"), rows, styles, words=1)
    yield Text(RULES, "dim")
    if not found.environment:
        yield Text("Machine, versions, packages and code are the same as far as both know them.")
    for name, there, here in found.environment[:MOST_SHOWN]:
        yield Text(f"differs: {name} was {there}, and is {here}")
    if len(found.environment) > MOST_SHOWN:
        yield Text(f"and {len(found.environment) - MOST_SHOWN} more, which --json lists")
    yield Text(f"new runs: {', '.join(found.runs.values())}", "dim")


def rechecked_document(found: Rechecked) -> dict[str, Any]:
    """The JSON of a recheck."""
    return {"holds": found.holds, **asdict(found), "claims": [_claim(each) for each in found.claims]}


def reproduced_document(found: Reproduced) -> dict[str, Any]:
    """The JSON of a reproduction."""
    return {
        "holds": found.holds,
        "claims": [_agreement(each) for each in found.claims],
        "environment": [
            {"name": name, "there": str(there), "here": str(here)} for name, there, here in found.environment
        ],
        "runs": list(found.runs.values()),
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return {**asdict(claim), "sentence": claim.in_words}


def _agreement(each: Agreement) -> dict[str, Any]:
    return {
        **_claim(each.claim),
        "here": each.here.value,
        "here_interval": each.here.interval,
        "rule": each.rule,
        "agrees": each.agrees,
        "change": each.change,
        "change_interval": each.change_interval,
    }


def _claims(claims: Sequence[Claim]) -> Iterator[RenderableType]:
    for each in claims:
        yield Text.assemble((each.id, "bold"), f": {each.in_words}")


def _value(claim: Claim) -> str:
    return _figure(claim.value, claim.interval)


def _figure(value: object, interval: tuple[float, float] | None) -> str:
    return in_words(value) + bracketed(interval)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
