"""A verification, verdict first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from specbench.render.fitting import Fitted
from specbench.verify.records import SAME, VERDICTS, Result, Verdict

SHOWN = 12
COLUMNS = ("prompt", "verdict", "token", "the reference's\nand its own", "margin", "noise", "cause")
RATE_COLUMNS = ("TTFT ms", "TPOT ms", "tok/s", "speed-up", "accepted\nof drafted", "tokens per\nverification")

LOAD_COLUMNS = ("requests\nat a time", "TTFT ms", "TPOT ms", "tok/s\nof all", "answers unlike\nthose alone")


def verification(result: Result) -> RenderableType:
    """The statement, the tables and what else is to be known."""
    parts: list[RenderableType] = [Text(result.statement, style="bold")]
    parts += [Text(f"fault: {each}", style="red") for each in result.all_faults]
    parts += [Text(f"note: {each}") for each in result.warnings]
    for _, table in tables(result, SHOWN):
        parts.append(table)
    hidden = len(result.verdicts) - result.count(SAME) - SHOWN
    if hidden > 0:
        parts.append(Text(f"and {hidden} more; --json shows all", style="dim"))
    parts += [Text(line) for line in sampling(result)]
    parts += [Text(line, style="dim") for line in known(result)]
    return Group(*parts)


def verifications(results: Sequence[Result]) -> RenderableType:
    """Several side by side, with what each says."""
    parts: list[RenderableType] = [side_by_side(results)]
    parts += [Text(f"{each.verify_id}: {each.statement}") for each in results]
    return Group(*parts)


def side_by_side(results: Sequence[Result]) -> Fitted:
    """A row a verification."""
    rows = []
    for each in results:
        (*_, rate) = [row[-3:] for row in _rates(each)] or [("-", "-", "-")]
        counts = [str(each.count(verdict)) for verdict in VERDICTS]
        whom = each.against.url if each.against else "itself"
        rows.append((each.verify_id, each.server.url, whom, *counts, str(len(each.all_faults)), *rate))
    return Fitted(("verification", "server", "reference"), (*VERDICTS, "faults", *RATE_COLUMNS[-3:]), rows)


def tables(result: Result, most: int | None = None) -> Iterator[tuple[str, Fitted]]:
    """What is shown of answers that differ, of speed, and of speed under load, each with its caption.

    Args:
        most: rows of the first.
    """
    other = [each for each in result.verdicts if each.verdict != SAME]
    if other:
        rows = [_row(each) for each in other[:most]]
        yield "Answers that are not the same", Fitted(COLUMNS[:1], COLUMNS[1:], rows, words=1)
    if result.speeds:
        yield "One request at a time", Fitted(("server",), RATE_COLUMNS, list(_rates(result)))
    if result.loads:
        yield "Several requests at a time", Fitted(("server",), LOAD_COLUMNS, list(_loads(result)))


def _row(each: Verdict) -> tuple[str, ...]:
    own, other = ("end" if token is None else repr(token) for token in each.tokens)
    place = "-" if each.position is None else str(each.position)
    return (
        each.prompt_id,
        each.verdict,
        place,
        f"{own}, {other}",
        _small(each.margin),
        _small(each.noise),
        each.cause or "-",
    )


def _rates(result: Result) -> Iterator[tuple[str, ...]]:
    accepted = {each.url: each for each in result.acceptance}
    for each in result.speeds:
        found = accepted.get(each.url)
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}"
        if each.interval:
            ratio += f" ({each.interval[0]:.2f} to {each.interval[1]:.2f})"
        figures = [
            f"{value:.1f}" if value is not None else "-"
            for value in (each.ttft_ms, each.tpot_ms, each.tokens_per_s)
        ]
        rate = f"{found.rate:.3f} of {found.drafted}" if found and found.rate is not None else "-"
        length = f"{found.length:.2f}" if found and found.length is not None else "-"
        yield (each.url, *figures, ratio, rate, length)


def _loads(result: Result) -> Iterator[tuple[str, ...]]:
    for each in result.loads:
        times = [f"{value:.1f}" if value is not None else "-" for value in (each.ttft_ms, each.tpot_ms)]
        yield (each.url, str(each.concurrency), *times, f"{each.tokens_per_s:.1f}", str(each.differ))


def sampling(result: Result) -> Iterator[str]:
    """A line for each comparison of samples."""
    for each in result.shifts:
        verdict = f"shifted: {each.cause or 'no cause found'}" if each.found else "no shift found"
        yield (
            f"distribution, {each.of}: {verdict} (p {each.p_value:.2g}, total variation {each.distance:.3f}, "
            f"noise included; a shift of {each.detectable:.3f} would have been found with 95 %)"
        )


def known(result: Result) -> Iterator[str]:
    """What is known of the servers: steadiness, noise, interfaces and what they cannot give."""
    for each in result.steadiness:
        yield f"{each.url}: {each.differ} of {each.asked} prompts differ when asked {each.times} times"
    if result.noise is not None:
        move = f"{result.noise:.2g}"
        yield f"the reference's margins move by up to {move} in log-probability; ties are within twice that"
    for facts in filter(None, (result.server, result.against)):
        tried = ", experimental: this interface was never tried on a real server" if facts.experimental else ""
        version = f" {facts.version}" if facts.version else ""
        yield f"{facts.url}: {facts.kind}{version}, model {facts.model or 'not named'}{tried}"
        for missing in facts.missing:
            yield f"{facts.url}: {missing}"
    for counted in result.acceptance:
        yield f"{counted.url}: acceptance is the server's own count: {counted.conversion}"
    for url, count in result.retries.items():
        yield f"{url}: {count} requests were sent again after a refusal"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
