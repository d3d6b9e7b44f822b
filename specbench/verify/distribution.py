"""Whether a server samples the distribution that it should: G-tests over samples of three tokens.

The first token of an answer is drawn without a draft, the others may be drafted. So first and later tokens are
tested apart: a fault of the acceptance test or of the residual shows in the later ones alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from specbench.servers.answers import Completion, Question, Token
from specbench.servers.base import Server
from specbench.verify import gtest
from specbench.verify.gtest import REST, Table
from specbench.verify.prompts import Asked
from specbench.verify.records import Settings, Shift

PREFIXES, LENGTH = 4, 3
CONTEXTS = 3  # the most frequent beginnings, behind which the next token is tested
FEWEST = 40  # samples behind a context
UNKNOWN_TAIL = 0.005
FIRST = "the first token against the stated distribution"
LATER = "later tokens against the stated distribution"
DRAFTING = "the first token is right and later ones are not: acceptance test or residual"
SAMPLING = "the first token is shifted, which no draft touches: temperature, cut-off or weights"
GREEDY = (
    "{} draws one and the same answer {} times behind each prefix at temperature {:g}: "
    "does it decode greedily at every temperature?"
)

Tempered: TypeAlias = tuple[Counter, Mapping[Hashable, float]]


def shifts(
    server: Server,
    reference: Server | None,
    rows: Sequence[tuple[Asked, Completion, Completion]],
    settings: Settings,
) -> tuple[list[Shift], list[str]]:
    """Compare samples with the reference's, and with what the reference (or the server) states.

    Returns:
        Each comparison, and what to know of the samples.
    """
    varied = 0
    joint: list[Table] = []
    first: list[Table] = []
    later: list[Table] = []
    tempers: list[Tempered] = []
    stating = reference or server
    for number, (asked, theirs, _) in enumerate(rows[:PREFIXES]):
        prefix = asked.question.behind((theirs.tokens or ())[: 4 * number], LENGTH)
        ours = _samples(server, prefix, settings, 2 * number)
        varied += len(set(ours)) > 1
        if reference:
            joint += gtest.two_samples(
                Counter(ours), Counter(_samples(reference, prefix, settings, 2 * number + 1))
            )
        for context, counts in _contexts(ours):
            stated = _stated(stating, prefix.behind(context), settings.temperature)
            if stated is None:
                continue
            found = gtest.against(counts, stated)
            (later if context else first).extend(found)
            if found and not context:
                tempers.append((counts, stated))
    whom = reference.url if reference else "itself"
    named = {f"{LENGTH} tokens against those of {whom}": joint, FIRST: first, LATER: later}
    warnings = [] if varied else [GREEDY.format(server.url, settings.samples, settings.temperature)]
    return _judged(named, tempers, settings), warnings


def _samples(server: Server, prefix: Question, settings: Settings, stream: int) -> list[tuple[Token, ...]]:
    found = []
    for number in range(settings.samples):
        seed = 1 + number + settings.samples * (stream + 1000 * settings.seed)
        answer = server.complete(replace(prefix, temperature=settings.temperature, seed=seed))
        found.append(answer.tokens if answer.tokens is not None else (answer.text,))
    return found


def _contexts(samples: Sequence[tuple[Token, ...]]) -> list[tuple[tuple[Token, ...], Counter]]:
    """Counts of the token behind the empty beginning, and behind the most frequent ones."""
    behind: dict[tuple[Token, ...], Counter] = {}
    for sample in samples:
        for length in range(len(sample)):
            behind.setdefault(sample[:length], Counter())[sample[length]] += 1
    enough = {context: counts for context, counts in behind.items() if counts.total() >= FEWEST}
    longest: dict[int, int] = Counter()
    kept = []
    for context, counts in sorted(enough.items(), key=lambda each: -each[1].total()):
        longest[len(context)] += 1
        if longest[len(context)] <= CONTEXTS:
            kept.append((context, counts))
    return kept


def _stated(server: Server, prefix: Question, temperature: float) -> dict[Hashable, float] | None:
    """What a server's log-probabilities mean at a temperature; `None` where too much is left untold."""
    top = server.complete(replace(prefix, top=server.tops).fresh).top if server.tops else None
    if not top or not top[0] or temperature > 1:
        return None
    weights = {token: math.exp(value / temperature) for token, value in top[0].items()}
    told = sum(math.exp(value) for value in top[0].values())
    least = math.exp(min(top[0].values()))
    tail = max(0.0, 1 - told) * least ** (1 / temperature - 1)
    whole = sum(weights.values())
    if tail > UNKNOWN_TAIL * whole:
        return None
    stated: dict[Hashable, float] = {token: weight / (whole + tail) for token, weight in weights.items()}
    return {**stated, REST: tail / (whole + tail)}


def _judged(
    named: Mapping[str, Sequence[Table]], tempers: Sequence[Tempered], settings: Settings
) -> list[Shift]:
    from specbench.stats.intervals import holm

    sums = {name: gtest.summed(tables) for name, tables in named.items() if tables}
    p_values = [gtest.p_value(each) for each in sums.values()]
    found = []
    for (name, table), (_, p_value) in zip(sums.items(), holm(p_values), strict=True):
        least = gtest.detectable(table.freedom, table.weight)
        shifted = p_value < gtest.SIGNIFICANCE
        found.append(Shift(name, settings.samples, p_value, table.distance, least, shifted))
    which = {each.of for each in found if each.found}
    cause = None
    if FIRST in which:
        cause = _temper(tempers, settings.temperature) or SAMPLING
    elif LATER in which and FIRST in sums:
        cause = DRAFTING
    return [replace(each, cause=cause) if each.found else each for each in found]


def _temper(tempers: Sequence[Tempered], temperature: float) -> str | None:
    """The temperature by which first tokens are explained, where it is not the one asked for."""
    best: tuple[float, float] | None = None
    for step in range(-30, 31):
        power = 1.05**step
        tables = []
        for counts, stated in tempers:
            weights = {token: share**power for token, share in stated.items()}
            whole = sum(weights.values())
            tables += gtest.against(counts, {token: weight / whole for token, weight in weights.items()})
        if not tables:
            return None
        best = max(best or (0.0, 1.0), (gtest.p_value(gtest.summed(tables)), power))
    if best and best[0] > 0.01 and abs(math.log(best[1])) > 0.1:
        return f"first tokens look as if drawn at temperature {temperature / best[1]:.2f}, not {temperature:g}"
    return None
