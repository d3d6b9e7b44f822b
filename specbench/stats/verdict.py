"""The declared end-point: time per output token against the control, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specbench.results.derived import CategorySpeedup
from specbench.results.records import Generation
from specbench.stats import intervals

FEWEST_PROMPTS = 12
FEWEST_RESTARTS = 3
RESTARTS, PROMPTS = "restarts", "prompts"
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
        restarts: of each run that takes part, by restart what `logs` is of all.
    """

    logs: dict[str, float]
    category: dict[str, str]
    throughput: float | None
    restarts: tuple[tuple[dict[str, float], ...], ...] = ()

    @property
    def ratio(self) -> float | None:
        """Ratio of geometric means of TPOT, every question weighing the same; above 1 is faster."""
        return math.exp(sum(self.logs.values()) / len(self.logs)) if self.logs else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `ratio`; `None` below twelve questions."""
        return _interval(self._bootstrap()) if len(self.logs) >= FEWEST_PROMPTS else None

    @property
    def complete_restarts(self) -> int:
        """How many restarts answered every question; of several runs the fewest."""
        return min(map(len, self._restart_means()), default=0)

    @property
    def levels(self) -> tuple[str, ...]:
        """What the interval covers: what differs between prompts, and from three restarts on between these."""
        return (RESTARTS, PROMPTS) if self.complete_restarts >= FEWEST_RESTARTS else (PROMPTS,)

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
        prompts = intervals.bootstrap(np.array(list(self.logs.values())), categories)
        if RESTARTS not in self.levels:
            return prompts
        means = enumerate(self._restart_means(), 1)
        return intervals.with_levels(
            prompts, *(intervals.bootstrap(np.array(each), [0] * len(each), seed=seed) for seed, each in means)
        )

    def _restart_means(self) -> list[list[float]]:
        """Of each run, the mean log of each restart that answered every question."""
        return [
            [
                sum(one[name] for name in self.logs) / len(self.logs)
                for one in run
                if self.logs.keys() <= one.keys()
            ]
            for run in self.restarts
        ]


def speedup(
    reference: Sequence[Generation], records: Sequence[Generation], restart_repeats: int | None = None
) -> Speedup:
    """Pair records with a reference's, question by question.

    Args:
        restart_repeats: how many repeats in a row one process measured; `None` without restarts.
    """
    logs: dict[str, list[float]] = {}
    category: dict[str, str] = {}
    restarts: dict[int, dict[str, list[float]]] = {}
    paired = pairs(reference, records)
    for theirs, ours in paired:
        if theirs.tpot_ms and ours.tpot_ms:
            log = math.log(theirs.tpot_ms / ours.tpot_ms)
            logs.setdefault(ours.prompt_id, []).append(log)
            category[ours.prompt_id] = ours.category
            if restart_repeats:
                restart = restarts.setdefault(ours.repeat // restart_repeats, {})
                restart.setdefault(ours.prompt_id, []).append(log)
    rates = [tokens_per_second([pair[side] for pair in paired]) for side in (0, 1)]
    throughput = rates[1] / rates[0] if rates[0] and rates[1] else None
    by_restart = tuple(map(_means, restarts.values()))
    return Speedup(_means(logs), category, throughput, (by_restart,) if by_restart else ())


def _means(logs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in logs.items()}


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
    over = f"{found.complete_restarts} restarts and {count}" if RESTARTS in found.levels else count
    shown = f"{found.ratio:.2f} times its speed per token (95 % interval {low:.2f} to {high:.2f} over {over})"
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
