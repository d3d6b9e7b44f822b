"""Tables of replayed schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from specbench.forecast.breakeven import BreakEven, break_evens
from specbench.forecast.grid import Row, best, winner
from specbench.render import modelled
from specbench.render.fitting import Cell, Fitted
from specbench.render.modelled import ALONE, UNDECIDED
from specbench.results.records import CONTROL
from specbench.stats.comparison import LABELS
from specbench.stats.notes import ANOTHER_TEXT, WRONG

COMPUTED_FOOT = (
    'Each method: speed-up of TPOT over the cloud alone, "at" its fastest draft length. Computed, so there are '
    "no intervals. Fastest: the highest speed-up above 1."
)
MAP_FOOT = (
    "Each method: speed-up of TPOT over the cloud alone (ratio of geometric means over texts), at its "
    "fastest draft length. In brackets: the 95 % interval includes 1.0, or there is none. Intervals are "
    "corrected (Holm) over the draft lengths, which were chosen on the same prompts. Fastest: the highest "
    "speed-up of the methods that pay; methods are not tested against each other."
)
REGRET = "\nRegret: decoding time over that of the best choices made in hindsight (1.00 cannot be improved)."
FIGURES = (
    *("draft\nlength", "TTFT\nms", "TPOT\nms", "tok/s", "speed-up"),
    *("accept\nlength", "accept\nrate", "wasted"),
)
FOOT = (
    "* the cloud alone. TTFT, TPOT: medians over texts. Speed-up: TPOT of the cloud alone over the "
    "method's, ratio of geometric means. In brackets: the 95 % interval (Holm-corrected over draft "
    "lengths) includes 1.0, or there is none. Wasted: draft tokens that were drafted ahead and dropped."
)


def drafting(rows: Sequence[Row]) -> list[str]:
    """The methods beside the cloud alone, in their order."""
    return list(dict.fromkeys(row.method for row in rows if row.method != CONTROL))


def winner_name(row: Row | None) -> str:
    """What a map says is fastest."""
    if row is None:
        return UNDECIDED
    return ALONE if row.method == CONTROL else row.method


def where(condition: Mapping[str, object]) -> str:
    """A condition in words."""
    return ", ".join(f"{key} = {value}" for key, value in condition.items())


def grid_table(rows: Sequence[Row], title: str, notes: Sequence[str] = ()) -> RenderableType:
    """Every method at every draft length, under one condition."""
    fastest = winner(best(rows)[0])
    cells = [
        (
            f"{row.method}\u00a0*" if row.method == CONTROL else row.method,
            _or_dash(row.draft_length, "{}"),
            _or_dash(row.ttft_ms, "{:.1f}"),
            f"{row.tpot_ms:.2f}",
            f"{1000 / row.ms_per_token:.1f}" if row.ms_per_token else "-",
            cell_text(replace(row, draft_length=None)),
            _or_dash(row.acceptance_length, "{:.2f}"),
            _or_dash(row.acceptance_rate, "{:.0%}"),
            str(row.wasted_tokens) if row.wasted_tokens else "-",
            *((f"{row.regret:.2f}",) if row.regret else ()),
        )
        for row in rows
    ]
    columns, foot = (*FIGURES, "regret") if rows[0].regret else FIGURES, FOOT
    if modelled.objective_columns(rows):
        columns, foot = (*columns, "J\na token", "price of\na million"), f"{FOOT} {modelled.foot(rows)}"
        cells = [
            (*line, _or_dash(row.joules_per_token, "{:.3g}"), _or_dash(row.cost_per_million, "{:.3g}"))
            for line, row in zip(cells, rows, strict=True)
        ]
    table = Fitted(("method",), columns, cells, ["bold" if row is fastest else None for row in rows])
    return _told(rows, title, table, foot, notes)


def map_table(rows: Sequence[Row], title: str, notes: Sequence[str] = ()) -> RenderableType:
    """Where each method wins: a condition a line, each method at its best draft length."""
    methods = drafting(rows)
    lines: list[tuple[Cell, ...]] = []
    for by_method in best(rows):
        if CONTROL not in by_method:
            continue
        fastest = winner(by_method)
        control = by_method[CONTROL]
        cells = [
            Text(cell_text(by_method.get(method)), "bold" if fastest and fastest.method == method else "")
            for method in methods
        ]
        values = [str(value) for value in control.condition.values()]
        lines.append((*values, f"{control.tpot_ms:.2f}", *cells, winner_name(fastest)))
    columns = ("cloud alone\nms a token", *(method.replace("_", "\n") for method in methods), "fastest")
    table = Fitted(list(rows[0].condition), columns, lines, words=1)
    foot = MAP_FOOT if rows[0].measured else COMPUTED_FOOT
    return _told(rows, title, Group(table, *_regrets(rows), *_choices(rows)), foot, notes)


def _choices(rows: Sequence[Row]) -> list[RenderableType]:
    """The best by each objective, where there is more than speed."""
    names = modelled.objective_columns(rows)
    if not names:
        return []
    table = Fitted(list(rows[0].condition), names, modelled.choice_rows(rows), words=len(names))
    return [Text(f"\n{modelled.heading(rows)}"), table, Text(modelled.foot(rows), style="dim")]


def _regrets(rows: Sequence[Row]) -> list[RenderableType]:
    """A map of each method's time over the oracle's, at its best draft length, where that was asked for."""
    if rows[0].regret is None:
        return []
    conditions, methods = best(rows), dict.fromkeys(row.method for row in rows)
    lines = [
        (
            *map(str, by_method[CONTROL].condition.values()),
            *(_or_dash(by_method[each].regret if each in by_method else None, "{:.2f}") for each in methods),
        )
        for by_method in conditions
        if CONTROL in by_method
    ]
    names = ["cloud alone" if name == CONTROL else name.replace("_", "\n") for name in methods]
    return [Text(REGRET), Fitted(list(rows[0].condition), names, lines, words=1)]


def _told(
    rows: Sequence[Row], title: str, table: RenderableType, foot: str, notes: Sequence[str]
) -> RenderableType:
    return Group(
        *(Text(line, style="bold") for line in verdicts(rows)),
        Text(f"\n{title}"),
        table,
        Text(foot, style="dim"),
        *(Text(f"note: {note}", style="yellow") for note in notes),
    )


def cell_text(row: Row | None) -> str:
    """A speed-up with the draft length it takes; in brackets where it cannot be told from 1."""
    if row is None:
        return "-"
    text = f"{row.speedup:.2f}x" if row.draft_length is None else f"{row.speedup:.2f}x at {row.draft_length}"
    text = f"({text})" if row.is_open else text
    return f"{text} bug" if row.bugs else text


def told_break_even(even: BreakEven) -> str:
    """Up to which round trip a method pays, as far as that was shown."""
    if even.undecided:
        return "undecided" if even.shown_ms is None else f"up to {even.shown_ms:g} ms, undecided beyond"
    if even.rtt_ms is None:
        return "nowhere"
    return f"up to {even.rtt_ms:g} ms at least" if even.beyond else f"up to {even.rtt_ms:.1f} ms"


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for each method: where it wins, and by which draft length; another text stands last."""
    conditions, lines, apart = best(rows), [], []
    for method in drafting(rows):
        found = [by_method[method] for by_method in conditions if method in by_method]
        wins = sum(row.pays for row in found)
        top = max(found, key=lambda row: row.rank)
        if top.bugs:
            lines.append(f"{method}: no verdict, its texts {WRONG}.")
            continue
        if not top.competes:
            apart.append(f"{method}: no verdict, {ANOTHER_TEXT}.")
            continue
        times = f"{top.speedup:.2f} times its speed per token"
        times += "" if top.draft_length is None else f", with draft length {top.draft_length}"
        if top.is_open:
            times += ", which is inconclusive" if top.interval else ", with too few prompts for an interval"
        name = method if top.lossless else f"{method} ({LABELS[top.lossless]})"
        if len(found) == 1:
            line = f"{name}: at best {times.replace('its speed', 'the speed of the cloud alone')}"
        else:
            is_known = wins or not any(row.is_open for row in found)
            how = "is" if wins else "is not" if is_known else "is not shown to be"
            line = (
                f"{name} {how} faster than the cloud alone under {wins or 'any'} of {len(found)} conditions; "
            )
            line += f"at best {times}"
        evens = [even for even in break_evens(rows) if even.method == method]
        if len(evens) == 1 and evens[0].shown_ms is not None:
            line += f"; by round trip, it pays {told_break_even(evens[0])}"
        lines.append(f"{line}.")
    together = modelled.disagreement(rows)
    return [*lines, *apart, *([together] if together else [])]


def _or_dash(value: object, text: str) -> str:
    return "-" if value is None else text.format(value)
