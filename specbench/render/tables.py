"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import RenderableType
from rich.text import Text

from specbench.render import costs
from specbench.render.cells import interval_text, number, percent
from specbench.render.fitting import Cell, Fitted
from specbench.render.parts import parts_of
from specbench.render.spending import spending
from specbench.results.derived import CategorySpeedup, Comparison, MethodSummary, Prediction
from specbench.results.records import CONTROL, SYNTHETIC, Divergence

SPEED_COLUMNS = ("TTFT\nms", "TPOT\nms", "tok/s", "speed-up\nvs control", "95 %\ninterval", "tok/s vs\ncontrol")
TEXT_COLUMNS = (
    "tokens", "exact\nmatch", "speed-up\nvs generate", "peak\nmemory", "ceiling\ntok/s", "share of\nceiling",
)  # fmt: skip
DRAFT_COLUMNS = (
    "rounds",
    "drafted\na round",
    "accept\nrate",
    "accept\nlength",
    "accepted at 1, 2, ...\nif all before were",
)
LOSSY_COLUMNS = (
    "same\ntext",
    "common prefix\ntokens",
    "chrF with\ncontrol",
    "chrF with\nreferences",
    "control's chrF\nwith references",
)
QUALITY_COLUMNS = ("answers\nchecked", "score", "worse than\nthe control", "better", "loops", "refusals")
CATEGORY_COLUMNS = ("prompts", "speed-up", "interval\n(Holm)", "verdict\n(Holm)")
POSITIONS_A_LINE = 6
FOOT = (
    "* the control: the cloud alone, in the loop of speculation. TTFT, TPOT: medians over requests. "
    "tok/s: all tokens over all time, prefill included. Speed-up: ratio of geometric means of TPOT, "
    "paired by prompt, so it is not the ratio of two table cells. Interval: bootstrap over prompts, and over "
    "restarts from three on. Acceptance: sums over sums. Memory: of the process, which all methods of a run "
    "share unless a note says otherwise. Ceiling: read bandwidth divided by the bytes of weights that a token "
    "reads. Share of ceiling: median over prompts. Draft, link, verify time: shares of the time between first "
    "and last token; overlapping parts count in each."
)


def detail_tables(comparison: Comparison) -> list[RenderableType]:
    """Every figure of a comparison, as tables and sentences; whole at any width."""
    rows = comparison.methods
    parts: list[RenderableType] = [Text(str(row.statement)) for row in comparison.judged]
    parts += [
        Text("\nspeed"),
        _table(comparison, rows, SPEED_COLUMNS, speed_cells),
        Text("texts and memory"),
        _table(comparison, rows, TEXT_COLUMNS, text_cells),
    ]
    for rule in dict.fromkeys(row.verification for row in rows if row.acceptance):
        drafting = [row for row in rows if row.acceptance and row.verification == rule]
        parts += [
            Text(f"acceptance, verification rule {rule}"),
            _table(comparison, drafting, DRAFT_COLUMNS, draft_cells, words=1),
        ]
    for title, columns in costs.TABLES.items():
        if names := costs.known(rows, columns):
            cells = partial(costs.cells, names=names)
            found = [row for row in rows if row.costs and set(cells(row)) != {"-"}]
            parts += [Text(title), _table(comparison, found, [columns[name] for name in names], cells)]
    for spent in spending(comparison):
        named: list[tuple[Cell, ...]] = [(_named(row, comparison), *figures) for row, figures in spent.rows]
        words, rest = ("method", *spent.columns[: spent.words]), spent.columns[spent.words :]
        parts += [Text(spent.title), Fitted(words, rest, named), Text(spent.foot, style="dim")]
    if lossy := [row for row in rows if row.agreement]:
        parts += [
            Text("similarity to the control's text"),
            _table(comparison, lossy, LOSSY_COLUMNS, agreement_cells),
        ]
    if judged := [row for row in rows if row.quality and row.quality.scored]:
        parts += [Text("answers"), _table(comparison, judged, QUALITY_COLUMNS, quality_cells)]
    parts += parts_of(comparison, lambda row: _named(row, comparison))
    if any(row.interval for row in comparison.categories):
        parts += [Text("speed-up by category"), _categories(comparison)]
    parts += [Text(prediction_line(each)) for each in comparison.predictions]
    return [*parts, Text(FOOT, style="dim")]


def _table(
    comparison: Comparison,
    rows: Sequence[MethodSummary],
    columns: Sequence[str],
    cells: Callable[[MethodSummary], Sequence[str]],
    words: int = 0,
) -> Fitted:
    """One row a method; below its name, the verification rule and whether its text is the cloud's."""
    return Fitted(("method",), columns, [(_named(row, comparison), *cells(row)) for row in rows], words=words)


def _named(row: MethodSummary, comparison: Comparison) -> Text:
    return Text.assemble(starred(row, comparison).replace("@", "\n@"), "\n  ", (row.label, "dim"))


def starred(row: MethodSummary, comparison: Comparison) -> str:
    """A row's name; the control's with its star, on one line."""
    name, at, run = row.method.partition("@")
    return f"{name}\u00a0*{at}{run}" if name == CONTROL and comparison.control else row.method


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
        percent(row.share_of_ceiling) + ("\nfault" if row.ceiling_fault else ""),
    )


def draft_cells(row: MethodSummary) -> tuple[str, ...]:
    """The figures of `DRAFT_COLUMNS`."""
    found = row.acceptance
    if found is None:
        return ("-",) * len(DRAFT_COLUMNS)
    shares = [number(share, 2) for share in found.conditional]
    lines = [" ".join(shares[at : at + POSITIONS_A_LINE]) for at in range(0, len(shares), POSITIONS_A_LINE)]
    return (
        str(found.rounds),
        number(found.drafted_per_round, 2),
        number(row.acceptance_rate, 3),
        number(row.acceptance_length, 2),
        "\n".join(lines),
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


def score_text(row: MethodSummary) -> str:
    """The mean score of the answers that were checked, and how many those were."""
    found = row.quality
    return f"{found.score:.1%} of {found.scored}" if found and found.score is not None else "-"


def quality_cells(row: MethodSummary) -> tuple[str, ...]:
    """The figures of `QUALITY_COLUMNS`."""
    found = row.quality
    if found is None:
        return ("-",) * len(QUALITY_COLUMNS)
    beside = ("-" if count is None else str(count) for count in (found.worse, found.better))
    return str(found.scored), percent(found.score), *beside, percent(found.loops), percent(found.refusals)


def _categories(comparison: Comparison) -> Fitted:
    by_name = {row.method: row for row in comparison.methods}
    rows: list[tuple[Cell, ...]] = []
    for row in comparison.categories:
        whole = by_name[row.method]
        *figures, word = category_cells(row)
        if not whole.lossless:  # another text is never called faster
            word = SYNTHETIC if whole.verification == SYNTHETIC else "lossy"
        rows.append((_named(whole, comparison), row.category, *figures, word))
    return Fitted(("method", "category"), CATEGORY_COLUMNS, rows, words=1)


def category_cells(row: CategorySpeedup) -> tuple[str, ...]:
    """The figures of `CATEGORY_COLUMNS`."""
    return (
        str(row.prompts),
        number(row.speedup, 2, "x"),
        interval_text(row.interval),
        row.verdict or "too few prompts",
    )


def prediction_line(found: Prediction) -> str:
    """Predicted beside measured."""
    blamed = f", for {found.explained_by}" if found.explained_by else ""
    return (
        f"{found.method}: {found.predicted_ms:.2f} ms a token by the closed form, {found.measured_ms:.2f} "
        f"measured ({found.gap:+.1%}{blamed})"
    )


def divergence_line(divergence: Divergence) -> Text:
    """Where and why a text departs from the control's, as a sentence."""
    control, other = (f"id {token}" if token is not None else "its end" for token in divergence.tokens)
    where = f"prompt {divergence.prompt_id}, turn {divergence.turn + 1}, at token {divergence.position}"
    if divergence.method == CONTROL:
        apart = "which cuts it off" if divergence.margin is None else f"{divergence.margin:.2e} higher"
        return Text(
            f"bug: the control is not what the model says without a cache, on {where}: it has {other}, and a "
            f"pass over the whole text says {control}, {apart}; rounding explains {divergence.plausible:.2e}",
            style="red",
        )
    proof = ""
    if divergence.verdict is None and divergence.margin is not None:
        proof = f"; the server's log-probabilities of the two are {divergence.margin:.2e} apart"
    elif divergence.margin is not None and divergence.noise is not None:
        proof = (
            f"; the control's scores of the two are {divergence.margin:.2e} apart, and its single step differs "
            f"from the pass over {divergence.width} tokens by up to {divergence.noise:.2e}"
        )
        if divergence.plausible is not None and divergence.noise > divergence.plausible:
            proof += f", of which rounding explains {divergence.plausible:.2e}"
    return Text(
        f"{divergence.verdict or 'unproven'}: {divergence.method} departs from the control on {where}: control "
        f"has {control}, it has {other}{proof}",
        style="red" if divergence.verdict == "bug" else "yellow",
    )
