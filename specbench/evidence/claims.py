"""What a bundle claims: sentences whose figures are read from the comparison of its runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specbench.errors import SpecbenchError, nearest
from specbench.results.records import CONTROL
from specbench.stats.row_names import base

PLACES = re.compile(r"\{(value|low|high)\}")
INTERVALS = {"speedup_vs_control": "speedup_interval", "speedup": "interval"}
"""By figure, the name of the interval beside it, where that is not the figure's with `_interval`."""
Value = str | bool | int | float | None
Interval = tuple[float, float]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Args:
        sentence: with `{value}`, `{low}` and `{high}` where the figures stand.
        query: where the value stands in the comparison's JSON: the keys down to it, joined by `/`. In a list,
            `key=value` takes the entry that has it; several values of one key are joined by commas.
        interval: the 95 % interval that stands beside the value there; `None` where there is none.
    """

    id: str
    sentence: str
    query: str
    value: Value = None
    interval: Interval | None = None

    @property
    def in_words(self) -> str:
        """The sentence with its figures."""
        low, high = self.interval or (None, None)
        shown = {"value": self.value, "low": low, "high": high}
        return PLACES.sub(lambda place: in_words(shown[place[1]]), self.sentence)


def in_words(value: object) -> str:
    """A value as sentences show it: figures with two decimals."""
    return f"{value:.2f}" if isinstance(value, float) else "unknown" if value is None else str(value)


def default_claims(document: Mapping[str, Any]) -> list[Claim]:
    """For each method beside the control: speed, verdict, acceptance, and whether its text is the control's."""
    found: dict[str, Claim] = {}
    for method, row in document["methods"].items():
        for claim in _of_row(method, row):
            name = re.sub(r"[^a-z0-9_.]+", "-", f"{method}-{claim.id}".lower()).strip("-.")
            number = sum(each == name or each.startswith(f"{name}.") for each in found)
            name = f"{name}.{number + 1}" if number else name
            found[name] = answered(Claim(name, claim.sentence, claim.query), document)
    return list(found.values())


def _of_row(method: str, row: Mapping[str, Any]) -> Iterator[Claim]:
    where = f"methods/{method}"
    if base(method) != CONTROL and row["speedup_vs_control"] is not None:
        ends = " (95 % interval {low} to {high})" if row["speedup_interval"] else ""
        yield Claim(
            "speedup",
            f"{method} decodes at {{value}} times the speed of {row['reference']} per token{ends}.",
            f"{where}/speedup_vs_control",
        )
        if row["verdict"]:
            yield Claim("verdict", f"The verdict on {method} is: {{value}}.", f"{where}/verdict")
    if row["acceptance_rate"] is not None:
        yield Claim(
            "acceptance-rate",
            f"Of the tokens that {method} drafted, a share of {{value}} was accepted.",
            f"{where}/acceptance_rate",
        )
        yield Claim(
            "acceptance-length",
            f"{method} commits {{value}} tokens a round that drafted, as a mean.",
            f"{where}/acceptance_length",
        )
    if base(method) != CONTROL and row["exact_match"] is not None:
        yield Claim(
            "identity",
            f"A share of {{value}} of the texts of {method} equals the control's token for token.",
            f"{where}/exact_match",
        )
        yield Claim("bugs", f"Texts of {method} that differ by no tie: {{value}}.", f"{where}/bugs")


def answered(claim: Claim, document: Mapping[str, Any]) -> Claim:
    """The claim, with what its query finds.

    Raises:
        SpecbenchError: the query leads nowhere, or to no single figure or word.
    """
    value, interval = answer(claim.query, document, f"claim {claim.id}")
    return Claim(claim.id, claim.sentence, claim.query, value, interval)


def answer(query: str, document: Mapping[str, Any], who: str) -> tuple[Value, Interval | None]:
    """What stands at a query's place in a comparison's JSON, and the interval beside it.

    Raises:
        SpecbenchError: the query leads nowhere, or to no single figure or word; the message names `who` asks.
    """
    here: Any = document
    rest, beside = query, {}
    while rest:
        if isinstance(here, dict):
            key = max((key for key in here if rest == key or rest.startswith(f"{key}/")), key=len, default=None)
            if key is None:
                step = rest.partition("/")[0]
                raise SpecbenchError(f"{who}: {query} leads nowhere: there is no {step}", nearest(step, here))
            beside, here, rest = here, here[key], rest[len(key) + 1 :]
        elif isinstance(here, (list, tuple)):
            step, _, rest = rest.partition("/")
            here = _chosen(here, step, rest, f"{who}: {query}")
        else:
            raise SpecbenchError(f"{who}: {query} leads nowhere: there is nothing below {here}")
    if isinstance(here, (dict, list, tuple)):
        raise SpecbenchError(f"{who}: {query} is no single figure", "name one below it")
    last = query.rpartition("/")[2]
    found = beside.get(INTERVALS.get(last, f"{last}_interval"))
    return here, (float(found[0]), float(found[1])) if found else None


def _as_step(value: object) -> str:
    """How a step of a query writes the value of a key."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _chosen(entries: Sequence[Any], step: str, rest: str, who: str) -> Any:
    """What a step of a query leaves of a list: the entry that it names, or all that fit where steps follow."""
    key, equals, wanted = step.partition("=")
    fitting = [each for each in entries if isinstance(each, dict) and _as_step(each.get(key)) == wanted]
    if not equals or not fitting:
        raise SpecbenchError(f"{who} leads nowhere: there is no {step}", "a step through a list is key=value")
    if rest.partition("/")[0].partition("=")[1]:
        return fitting
    if len(fitting) > 1:
        raise SpecbenchError(f"{who} means {len(fitting)} entries", "add another key=value step")
    return fitting[0]
