"""Tables of replayed schedules, and of plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from rich.console import Group, RenderableType
from rich.text import Text

from specbench.forecast.assumed import Assumption
from specbench.forecast.breakeven import BreakEven, break_evens
from specbench.forecast.grid import Row, best, winner
from specbench.forecast.known import LONGEST
from specbench.forecast.plan import Plan, alone_ms, farthest_ms, fastest
from specbench.forecast.serving import MOST_CLIENTS, Load
from specbench.render.fitting import Cell, Fitted
from specbench.results.records import CONTROL
from specbench.stats.comparison import LABELS
from specbench.stats.notes import ANOTHER_TEXT, WRONG

Served = tuple[int, Load | None]  # a draft length, and what the most clients see
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
SHOWN_CHANCES = 8
ALONE, UNDECIDED = "the cloud alone", "undecided"
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
    columns = (*FIGURES, "regret") if rows[0].regret else FIGURES
    table = Fitted(("method",), columns, cells, ["bold" if row is fastest else None for row in rows])
    return _told(rows, title, table, FOOT, notes)


def map_table(rows: Sequence[Row], title: str, notes: Sequence[str] = ()) -> RenderableType:
    """Where each method wins: a condition a line, each method at its best draft length."""
    methods, lines = drafting(rows), []
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
    return _told(rows, title, Group(table, *_regrets(rows)), foot, notes)


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
    return lines + apart


def _or_dash(value: object, text: str) -> str:
    return "-" if value is None else text.format(value)


def plan_table(plan: Plan) -> RenderableType:
    """The verdicts, the forecast at draft lengths up to a little beyond the best ones, and what it rests on."""
    known, prices, plans = plan.known, plan.prices, plan.by_method
    best = {method: fastest(found).draft_length or 1 for method, found in plans.items()}
    columns = ["tokens\na round", "if all had\nequal chances"]
    for method in plans:
        columns += [method.replace("_", "\n") + "\nms a token", "speed-up"]
    lengths = []
    for index in range(min(LONGEST, max(best.values()) + 3)):
        row = [found[index] for found in plans.values()]
        cells: list[Cell] = [str(index + 1), f"{row[0].tokens_per_round:.2f}", f"{row[0].tokens_if_equal:.2f}"]
        for each in row:
            style = "bold" if each.draft_length == best[each.method] else ""
            cells += [Text(f"{each.ms_per_token:.2f}", style), Text(f"{each.speedup:.2f}x", style)]
        lengths.append(cells)
    survival, widths = known.survival, (1, 2, 5, 9)
    chances = ", ".join(f"{share:.2f}" for share in survival.conditional[:SHOWN_CHANCES])
    passes = ", ".join(f"{prices.pass_ms(width):.1f}" for width in widths)
    about = (
        f"\ncloud alone: {alone_ms(known, prices):.2f} ms a token · round trip {prices.rtt_ms:g} ms · accepted "
        f"at 1, 2, ... if all before were: {chances} · mean {survival.mean:.2f}"
        f"{known.label and (' · trace ' if known.texts else ' · ')}{known.label}"
        f"\ndraft step {prices.step_ms:.2f} ms · target pass over "
        f"{', '.join(map(str, widths))} tokens {passes} ms"
    )
    below = [*served_lines(plan.served, plan.objective_ms or 0.0)]
    below += assumed_lines(prices.costs.description, plan.assumed) + [f"note: {note}" for note in known.notes]
    return Group(
        *(Text(line, style="bold") for line in plan.verdicts),
        Text(about),
        Fitted(("draft\nlength",), columns, lengths),
        *map(Text, below),
    )


def plan_document(plan: Plan) -> dict:
    """The JSON of a plan; what is infinite or unknown is null."""
    by_method = {}
    for method, found in plan.by_method.items():
        even = farthest_ms(found)
        by_method[method] = {
            "best_draft_length": fastest(found).draft_length,
            "break_even_rtt_ms": _finite(even),
            "any_rtt": even == math.inf,
            "forecasts": [
                {**asdict(each), "break_even_rtt_ms": _finite(each.break_even_rtt_ms)} for each in found
            ],
        }
        if windows := plan.windows.get(method):
            by_method[method]["windows"] = asdict(windows)
    return {
        "exact": plan.known.is_exact,
        "conditional_acceptance": plan.known.survival.conditional,
        "costs": plan.prices.costs.model_dump(mode="json"),
        "verdicts": plan.verdicts,
        "methods": by_method,
        "clients": {
            _served_by(method, length): load
            and {
                "clients": load.clients,
                "at_least": load.clients >= MOST_CLIENTS,
                "p95_ms_per_token": load.high_ms,
                "busy": load.busy,
                "tokens_per_pass": load.rows_per_pass,
            }
            for method, (length, load) in plan.served.items()
        },
        "assumed": [asdict(each) for each in plan.assumed],
        "notes": list(plan.known.notes),
    }


def served_lines(served: Mapping[str, Served], objective_ms: float) -> list[str]:
    """How many clients one target serves, a sentence for each method."""
    lines = []
    for method, (length, load) in served.items():
        name = _served_by(method, length)
        if load is None:
            lines.append(f"{name}: not one client keeps to {objective_ms:g} ms a token")
            continue
        count = f"{'at least ' if load.clients >= MOST_CLIENTS else ''}{load.clients}"
        lines.append(
            f"{name}: {count} clients on one target keep to {objective_ms:g} ms a token (95 % of "
            f"texts at {load.high_ms:.1f} ms; the target is busy {load.busy:.0%} of the time, "
            f"{load.rows_per_pass:.1f} tokens a pass)"
        )
    return lines


def assumed_lines(source: str, assumed: Sequence[Assumption]) -> list[str]:
    """Where the costs of a plan are from, and what in them nobody measured or gave, a line each."""
    lines = [f"costs: {source or 'by hand'}{', and assumed:' if assumed else ''}"]
    return lines + [f"- {each.text} ({each.key})" for each in assumed]


def _served_by(method: str, draft_length: int) -> str:
    return f"{method}, draft length {draft_length}" if draft_length else method


def _finite(value: float | None) -> float | None:
    return None if value == math.inf else value
