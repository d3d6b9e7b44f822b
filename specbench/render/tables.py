"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench.records import Divergence
from specbench.render import costs
from specbench.results import CategorySpeedup, Comparison, MethodSummary, Prediction

SPEED_COLUMNS = ("TTFT\nms", "TPOT\nms", "tok/s", "speed-up\nvs control", "95 %\ninterval", "tok/s vs\ncontrol")
TEXT_COLUMNS = (
    "tokens", "exact\nmatch", "speed-up\nvs generate", "peak\nmemory", "ceiling\ntok/s", "share of\nceiling",
)  # fmt: skip
DRAFT_COLUMNS = (
    "rounds",
    "drafted\na round",
    "accept\nrate",
    "accept\nlength",
    "accepted at 1, 2, ... if all before were",
)
LOSSY_COLUMNS = (
    "same\ntext",
    "common prefix\ntokens",
    "chrF with\ncontrol",
    "chrF with\nreferences",
    "control's chrF\nwith references",
)
CATEGORY_COLUMNS = ("prompts", "speed-up", "interval\n(Holm)", "verdict\n(Holm)")
SHOWN_POSITIONS = 6
SHOWN_TIES = 5
FOOT = (
    "* the control: the cloud alone, in the loop of speculation. TTFT, TPOT: medians over requests. tok/s: all "
    "tokens over all time, prefill included. Speed-up: ratio of geometric means of TPOT, paired by prompt, so "
    "columns need not divide into each other; interval: bootstrap over prompts. Acceptance: sums over sums. "
    "Memory: the process, which all methods of a run share unless a note says otherwise. Ceiling: read "
    "bandwidth over the bytes of weights that a token reads; share: what 1/TPOT is of it. Draft, link, verify "
    "time: shares of the time between first and last token; what overlaps counts in each."
)


def comparison_table(comparison: Comparison) -> RenderableType:
    """The verdicts, the tables behind them, and what to know below; readable at 100 columns."""
    rows = comparison.methods
    parts: list[RenderableType] = [Text(f"warning: {line}", style="red") for line in comparison.warnings]
    parts += [Text(row.statement, style="bold") for row in rows if row.statement]
    parts += [
        Text(f"\n{comparison.profile} · {comparison.setting}"),
        _table(comparison, rows, SPEED_COLUMNS, speed_cells),
        _table(comparison, rows, TEXT_COLUMNS, text_cells),
    ]
    for rule in dict.fromkeys(row.verification for row in rows if row.acceptance):
        drafting = [row for row in rows if row.acceptance and row.verification == rule]
        parts += [
            Text(f"drafts, verified by: {rule}"),
            _table(comparison, drafting, DRAFT_COLUMNS, draft_cells),
        ]
    for title, columns in costs.TABLES.items():
        if names := costs.known(rows, columns):
            cells = partial(costs.cells, names=names)
            found = [row for row in rows if row.costs and set(cells(row)) != {"-"}]
            parts += [Text(title), _table(comparison, found, [columns[name] for name in names], cells)]
    if lossy := [row for row in rows if row.agreement]:
        parts += [
            Text("texts that need not be the control's"),
            _table(comparison, lossy, LOSSY_COLUMNS, agreement_cells),
        ]
    if any(row.interval for row in comparison.categories):
        parts.append(_categories(comparison))
    parts += [Text(prediction_line(each)) for each in comparison.predictions]
    parts.append(Text(FOOT, style="dim"))
    parts += _divergences(comparison.divergences)
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


def percent(value: float | None) -> str:
    """A share for a cell."""
    return "-" if value is None else f"{value:.1%}"


def _table(
    comparison: Comparison,
    rows: Sequence[MethodSummary],
    columns: Sequence[str],
    cells: Callable[[MethodSummary], Sequence[str]],
) -> Table:
    """One row a method; below its name, the verification rule and whether its text is the cloud's."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("method", overflow="fold", min_width=24)
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        marked = row.method.replace("@", "\n@") + (" *" if row.method == comparison.control else "")
        table.add_row(Text.assemble(marked, "\n  ", (row.label, "dim")), *cells(row))
    return table


def speed_cells(row: MethodSummary) -> tuple[str, ...]:
    """The figures of `SPEED_COLUMNS`."""
    return (
        number(row.ttft_ms),
        number(row.tpot_ms),
        number(row.tokens_per_second),
        number(row.speedup_vs_control, 2, "x"),
        interval_text(row.speedup_interval),
        number(row.throughput_vs_control, 2, "x"),
    )


def text_cells(row: MethodSummary) -> tuple[str, ...]:
    """The figures of `TEXT_COLUMNS`."""
    return (
        str(row.tokens),
        percent(row.exact_match),
        number(row.speedup_vs_cloud_baseline, 2, "x"),
        number(row.peak_rss_bytes / 1e9 if row.peak_rss_bytes else None, 2, " GB"),
        number(row.ceiling_tokens_per_second),
        percent(row.share_of_ceiling),
    )


def draft_cells(row: MethodSummary) -> tuple[str, ...]:
    """The figures of `DRAFT_COLUMNS`."""
    found = row.acceptance
    if found is None:
        return ("-",) * len(DRAFT_COLUMNS)
    positions = " ".join(number(share, 2) for share in found.conditional[:SHOWN_POSITIONS])
    return (
        str(found.rounds),
        number(found.drafted_per_round, 2),
        number(row.acceptance_rate, 3),
        number(row.acceptance_length, 2),
        positions,
    )


def agreement_cells(row: MethodSummary) -> tuple[str, ...]:
    """The figures of `LOSSY_COLUMNS`."""
    found = row.agreement
    if found is None:
        return ("-",) * len(LOSSY_COLUMNS)
    return (
        percent(found.exact_match),
        number(found.common_prefix_tokens),
        number(found.chrf),
        number(found.reference_chrf),
        number(found.control_reference_chrf),
    )


def _categories(comparison: Comparison) -> Table:
    labels = {row.method: row.label for row in comparison.methods}
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("method", overflow="fold", min_width=24)
    table.add_column("category", overflow="fold")
    for name in CATEGORY_COLUMNS:
        table.add_column(name, justify="right")
    for row in comparison.categories:
        name = Text.assemble(row.method.replace("@", "\n@"), "\n  ", (labels[row.method], "dim"))
        table.add_row(name, row.category, *category_cells(row))
    return table


def category_cells(row: CategorySpeedup) -> tuple[str, ...]:
    """The figures of `CATEGORY_COLUMNS`."""
    return (
        str(row.prompts),
        number(row.speedup, 2, "x"),
        interval_text(row.interval),
        row.verdict or "too few prompts",
    )


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval for a cell."""
    return "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def prediction_line(found: Prediction) -> str:
    """Predicted beside measured."""
    blamed = f", for {found.explained_by}" if found.explained_by else ""
    return (
        f"{found.method}: {found.predicted_ms:.2f} ms a token by the closed form, {found.measured_ms:.2f} "
        f"measured ({found.gap:+.1%}{blamed})"
    )


def _divergences(found: Sequence[Divergence]) -> list[Text]:
    """Every bug and what is unproven, and as many ties as can be read."""
    bugs = [part for part in found if part.verdict != "tie"]
    ties = [part for part in found if part.verdict == "tie"]
    lines = [divergence_line(part) for part in [*bugs, *ties[:SHOWN_TIES]]]
    if len(ties) > SHOWN_TIES:
        lines.append(Text(f"and {len(ties) - SHOWN_TIES} more ties, in --json", style="yellow"))
    return lines


def divergence_line(divergence: Divergence) -> Text:
    """Where and why a text departs from the control's, as a sentence."""
    control, other = (f"id {token}" if token is not None else "its end" for token in divergence.tokens)
    proof = ""
    if divergence.verdict is None and divergence.margin is not None:
        proof = f"; the server's log-probabilities of the two are {divergence.margin:.2e} apart"
    elif divergence.margin is not None and divergence.noise is not None:
        proof = (
            f"; the control's scores of the two are {divergence.margin:.2e} apart, and its single step differs "
            f"from the pass over {divergence.width} tokens by up to {divergence.noise:.2e}"
        )
    return Text(
        f"{divergence.verdict or 'unproven'}: {divergence.method} departs from the control on prompt "
        f"{divergence.prompt_id}, "
        f"turn {divergence.turn + 1}, at token {divergence.position}: control has {control}, it has "
        f"{other}{proof}",
        style="red" if divergence.verdict == "bug" else "yellow",
    )
