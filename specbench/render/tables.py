"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench.records import Comparison, Divergence, MethodSummary

SPEED_COLUMNS = ("tokens", "TTFT\nms", "TPOT\nms", "tok/s", "speed-up\nvs\ncontrol", "speed-up\nvs\ngenerate")
DRAFT_COLUMNS = ("accept\nrate", "accept\nlength", "lossless", "exact\nmatch", "peak\nmemory")
WIDE = 124
FOOT = (
    "* the control. TTFT, TPOT: medians over requests. tok/s: all tokens over all time, prefill included. "
    "speed-up: ratio of geometric means of TPOT over paired requests, so columns need not divide into each "
    "other. Acceptance: sums over sums. Memory: the process, which all methods of a run share."
)


def comparison_table(comparison: Comparison, width: int) -> RenderableType:
    """The result table with what was measured above it, and what to know below it.

    Args:
        width: columns of the terminal; a narrow one gets two tables, one below the other.
    """
    parts: list[RenderableType] = [Text(f"{comparison.profile} · {comparison.setting}", style="bold")]
    if width >= WIDE:
        parts.append(_columns(comparison, SPEED_COLUMNS + DRAFT_COLUMNS))
    else:
        parts += [_columns(comparison, SPEED_COLUMNS), _columns(comparison, DRAFT_COLUMNS)]
    parts.append(Text(FOOT, style="dim"))
    parts += [_divergence(divergence) for divergence in comparison.divergences]
    parts += [
        Text(f"failed: {failure.method} on prompt {failure.prompt_id}: {failure.error}", style="red")
        for failure in comparison.failures
    ]
    parts += [Text(f"note: {note}", style="yellow") for note in comparison.notes]
    parts.append(Text(f"run: {', '.join(comparison.runs)}", style="dim"))
    return Group(*parts)


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A figure for a cell; a dash where it does not apply or is not known."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def _columns(comparison: Comparison, names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for summary in comparison.methods:
        cells = _cells(summary)
        marked = summary.method + (" *" if summary.method == comparison.control else "")
        table.add_row(Text(marked), *(cells[name] for name in names))
    return table


def _cells(summary: MethodSummary) -> dict[str, str]:
    figures = (
        str(summary.tokens),
        number(summary.ttft_ms),
        number(summary.tpot_ms),
        number(summary.tokens_per_second),
        number(summary.speedup_vs_control, 2, "x"),
        number(summary.speedup_vs_cloud_baseline, 2, "x"),
        number(summary.acceptance_rate, 3),
        number(summary.acceptance_length, 2),
        {True: "yes", False: "no", None: "-"}[summary.lossless],
        "-" if summary.exact_match is None else f"{summary.exact_match:.1%}",
        number(summary.peak_rss_bytes / 1e9 if summary.peak_rss_bytes else None, 2, " GB"),
    )
    return dict(zip(SPEED_COLUMNS + DRAFT_COLUMNS, figures, strict=True))


def _divergence(divergence: Divergence) -> Text:
    control, other = (f"id {token}" if token is not None else "its end" for token in divergence.tokens)
    margin = "unknown" if divergence.top2_margin is None else f"{divergence.top2_margin:.2e}"
    return Text(
        f"mismatch: {divergence.method} departs from the control on prompt {divergence.prompt_id}, turn "
        f"{divergence.turn + 1}, at token {divergence.position}: control has {control}, it has {other}; "
        f"the control's top-2 logit margin there is {margin}",
        style="yellow",
    )
