"""Tables of replayed schedules, and of plans."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench.analysis.clock import Prices
from specbench.analysis.grid import Row
from specbench.analysis.planning import FORMS, LONGEST, Survival, alone_ms, fastest, forecasts
from specbench.analysis.replay import CONTROL, replay
from specbench.analysis.replay import Text as Sample

SHOWN_CHANCES = 8
FIGURES = (
    *("draft\nlength", "TTFT\nms", "TPOT\nms", "tok/s", "speed-up"),
    *("accept\nlength", "accept\nrate", "wasted"),
)
FOOT = (
    "* the cloud alone. Replayed on a virtual clock. TTFT, TPOT: medians over texts. Speed-up: of TPOT against "
    "the cloud alone, ratio of geometric means. Wasted: tokens drafted ahead in vain."
)


def grid_table(rows: Sequence[Row], title: str) -> RenderableType:
    """The fastest schedule of each condition in a sentence, and all rows."""
    keys = list(rows[0].condition)
    table = Table(title_justify="left", header_style="bold")
    for name in [*keys, "method"]:
        table.add_column(name)
    for name in FIGURES:
        table.add_column(name, justify="right")
    fastest = {id(row) for row in _fastest(rows)}
    for row in rows:
        table.add_row(
            *(str(row.condition[key]) for key in keys),
            f"{row.method} *" if row.method == CONTROL else row.method,
            _or_dash(row.draft_length, "{}"),
            _or_dash(row.ttft_ms, "{:.1f}"),
            f"{row.tpot_ms:.2f}",
            f"{1000 / row.ms_per_token:.1f}" if row.ms_per_token else "-",
            f"{row.speedup:.2f}x",
            _or_dash(row.acceptance_length, "{:.2f}"),
            _or_dash(row.acceptance_rate, "{:.0%}"),
            str(row.wasted_tokens) if row.wasted_tokens else "-",
            style="bold" if id(row) in fastest else None,
        )
    verdicts = [Text(line, style="bold") for line in _verdicts(rows)]
    return Group(*verdicts, Text(f"\n{title}"), table, Text(FOOT, style="dim"))


def _fastest(rows: Sequence[Row]) -> list[Row]:
    found: dict[tuple, Row] = {}
    for row in rows:
        key = tuple(row.condition.values())
        if key not in found or row.speedup > found[key].speedup:
            found[key] = row
    return list(found.values())


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for each method: where it wins, and by which draft length."""
    lines = []
    for method in dict.fromkeys(row.method for row in rows if row.method != CONTROL):
        found = _fastest([row for row in rows if row.method == method])
        wins = sum(row.speedup > 1 for row in found)
        top = max(found, key=lambda row: row.speedup)
        lines.append(
            f"{method} is faster than the cloud alone under {wins or 'none'} of {len(found)} conditions; "
            f"at best {top.speedup:.2f} times its speed per token, with draft length {top.draft_length}."
        )
    return lines


def _or_dash(value: object, text: str) -> str:
    return "-" if value is None else text.format(value)


def plan_table(
    survival: Survival, prices: Prices, texts: Sequence[Sample], lines: Sequence[str]
) -> RenderableType:
    """The verdict of each method, and the forecast at draft lengths up to a little beyond the best ones."""
    by_method = {method: forecasts(survival, prices, method) for method in FORMS}
    best = {method: fastest(found).draft_length for method, found in by_method.items()}
    table = Table(title_justify="left", header_style="bold")
    for name in ("draft\nlength", "tokens\na round", "if all had\nequal chances"):
        table.add_column(name, justify="right")
    for method in FORMS:
        table.add_column(method.replace("_", "\n") + "\nms a token", justify="right")
        table.add_column("speed-up", justify="right")
    if texts:
        table.add_column("speculative\nreplayed", justify="right")
    for index in range(min(LONGEST, max(best.values()) + 3)):
        row = [found[index] for found in by_method.values()]
        cells = [str(index + 1), f"{row[0].tokens_per_round:.2f}", f"{row[0].tokens_if_equal:.2f}"]
        for each in row:
            style = "bold" if each.draft_length == best[each.method] else ""
            cells += [Text(f"{each.ms_per_token:.2f}", style), Text(f"{each.speedup:.2f}x", style)]
        if texts:
            timed = replay(texts, prices, "speculative", index + 1)
            following = sum(one.tokens - 1 for one in timed)
            cells.append(f"{sum(one.decode_ms for one in timed) / following:.2f}" if following else "-")
        table.add_row(*cells)
    chances = ", ".join(f"{share:.2f}" for share in survival.conditional[:SHOWN_CHANCES])
    about = (
        f"\ncloud alone: {alone_ms(prices):.2f} ms a token · round trip {prices.rtt_ms:g} ms · accepted at "
        f"1, 2, ... if all before were: {chances} · mean {survival.mean:.2f}"
    )
    return Group(*(Text(line, style="bold") for line in lines), Text(about), table)
