"""Tables of replayed schedules."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench.analysis.grid import Row
from specbench.analysis.replay import CONTROL

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
