"""The declared end-point: time per output token against the control, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specbench.results.derived import CategorySpeedup
from specbench.results.records import Generation
from specbench.stats import intervals

FEWEST_PROMPTS = 12
MARGIN = 1.03
FASTER, SLOWER = "faster", "slower"
EQUIVALENT, UNDECIDED = "equivalent within 3 %", "no difference shown"


@dataclass(frozen=True)
class Speedup:
    """Records against a reference, on requests that both answered.

    Args:
        logs: by question, the mean over its turns and repeats of log(TPOT of the reference / TPOT).
        category: by question.
        throughput: ratio of all tokens over all time, on the same requests.
    """

    logs: dict[str, float]
    category: dict[str, str]
    throughput: float | None

    @property
    def ratio(self) -> float | None:
        """Ratio of geometric means of TPOT, every question weighing the same; above 1 is faster."""
        return math.exp(sum(self.logs.values()) / len(self.logs)) if self.logs else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `ratio`; `None` below twelve questions."""
        return _interval(self._bootstrap()) if len(self.logs) >= FEWEST_PROMPTS else None

    def by_category(self, method: str) -> list[tuple[CategorySpeedup, intervals.Bootstrap | None]]:
        """The same for each category alone, uncorrected, with what Holm's correction needs."""
        rows = []
        for category in dict.fromkeys(self.category.values()):
            logs = {name: log for name, log in self.logs.items() if self.category[name] == category}
            part = replace(self, logs=logs, throughput=None)
            enough = len(logs) >= FEWEST_PROMPTS
            if part.ratio is not None:
                row = CategorySpeedup(method, category, len(logs), part.ratio, None, None, None)
                rows.append((row, part._bootstrap() if enough else None))
        return rows

    def _bootstrap(self) -> intervals.Bootstrap:
        categories = [self.category[name] for name in self.logs]
        return intervals.bootstrap(np.array(list(self.logs.values())), categories)


def speedup(reference: Sequence[Generation], records: Sequence[Generation]) -> Speedup:
    """Pair records with a reference's, question by question."""
    logs: dict[str, list[float]] = {}
    category: dict[str, str] = {}
    paired = pairs(reference, records)
    for theirs, ours in paired:
        if theirs.tpot_ms and ours.tpot_ms:
            logs.setdefault(ours.prompt_id, []).append(math.log(theirs.tpot_ms / ours.tpot_ms))
            category[ours.prompt_id] = ours.category
    means = {name: sum(values) / len(values) for name, values in logs.items()}
    rates = [tokens_per_second([pair[side] for pair in paired]) for side in (0, 1)]
    throughput = rates[1] / rates[0] if rates[0] and rates[1] else None
    return Speedup(means, category, throughput)


def pairs(
    reference: Sequence[Generation], records: Sequence[Generation]
) -> list[tuple[Generation, Generation]]:
    """The same prompt, turn and repeat with equal prompt ids: later turns pair only while replies agree."""
    known = {record.key: record for record in reference}
    return [
        (known[record.key], record)
        for record in records
        if record.key in known and known[record.key].prompt_sha256 == record.prompt_sha256
    ]


def tokens_per_second(records: Sequence[Generation]) -> float | None:
    """All tokens over all time, prefill included."""
    seconds = sum(record.total_ms for record in records) / 1000
    return sum(len(record.tokens) for record in records) / seconds if seconds else None


def verdict(interval: tuple[float, float] | None) -> str | None:
    """The verdict of a speed-up's interval; within 3 % of 1 it is `equivalent within 3 %`."""
    if interval is None:
        return None
    low, high = interval
    if low >= 1 / MARGIN and high <= MARGIN:
        return EQUIVALENT
    if low > 1:
        return FASTER
    return SLOWER if high < 1 else UNDECIDED


def corrected(
    rows: Sequence[tuple[CategorySpeedup, intervals.Bootstrap | None]],
) -> tuple[CategorySpeedup, ...]:
    """The rows, with intervals, p-values and verdicts corrected over those with enough prompts."""
    done = []
    for (row, _), found in zip(rows, _holm([one for _, one in rows]), strict=True):
        if found is not None:
            interval, p_value = found
            row = replace(row, interval=interval, p_value=p_value, verdict=verdict(interval))
        done.append(row)
    return tuple(done)


def corrected_intervals(found: Sequence[Speedup]) -> list[tuple[float, float] | None]:
    """Intervals of speed-ups of which the best is to be picked, corrected over all of them (Holm)."""
    enough = [one._bootstrap() if len(one.logs) >= FEWEST_PROMPTS else None for one in found]
    return [one and one[0] for one in _holm(enough)]


def _holm(
    found: Sequence[intervals.Bootstrap | None],
) -> list[tuple[tuple[float, float], float] | None]:
    """Of each that has prompts enough, its interval at its own level, and its corrected p-value."""
    levels = iter(intervals.holm([one.p_value() for one in found if one is not None]))
    done: list[tuple[tuple[float, float], float] | None] = []
    for one in found:
        if one is None:
            done.append(None)
        else:
            level, p_value = next(levels)
            done.append((_interval(one, level), p_value))
    return done


def statement(
    name: str,
    label: str,
    reference: str,
    found: Speedup,
    interval: tuple[float, float] | None,
    same_text: bool = True,
) -> str:
    """The verdict as a sentence, with its interval; without a verdict, why there is none.

    Args:
        same_text: the text is the reference's; another one is never called faster.
    """
    who, count = f"{name} ({label})", f"{len(found.logs)} prompt{'' if len(found.logs) == 1 else 's'}"
    if found.ratio is None:
        return f"no verdict on {who}: no request of it can be paired with {reference}"
    if interval is None:
        return (
            f"no verdict on {who}: {count}, and {FEWEST_PROMPTS} are needed (--limit); "
            f"so far {found.ratio:.2f} times the speed of {reference} per token"
        )
    low, high = interval
    shown = f"{found.ratio:.2f} times its speed per token (95 % interval {low:.2f} to {high:.2f}, {count})"
    if not same_text:
        return f"{who} writes a text that may differ from that of {reference}, at {shown}"
    word = verdict(interval)
    if word == EQUIVALENT:
        return f"{who} is equivalent to {reference} within 3 %: {shown}"
    if word == UNDECIDED:
        return f"no difference shown between {who} and {reference}: {shown}"
    return f"{who} is {word} than {reference}: {shown}"


def _interval(found: intervals.Bootstrap, level: float = intervals.LEVEL) -> tuple[float, float]:
    low, high = found.interval(level)
    return math.exp(low), math.exp(high)
