"""Plans, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from specbench.forecast.assumed import Assumption
from specbench.forecast.known import LONGEST
from specbench.forecast.objectives import LEAST
from specbench.forecast.plan import Plan, alone, alone_ms, farthest_ms, fastest, spent_least
from specbench.forecast.replay import spent
from specbench.forecast.serving import MOST_CLIENTS, Load
from specbench.render import modelled
from specbench.render.fitting import Cell, Fitted

Served = tuple[int, Load | None]  # a draft length, and what the most clients see
SHOWN_CHANCES = 8


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
    below = [*served_lines(plan.served, plan.objective_ms or 0.0), *modelled.plan_lines(plan)]
    below += assumed_lines(prices.costs.description, plan.assumed) + [f"note: {note}" for note in known.notes]
    return Group(
        *(Text(line, style="bold") for line in plan.verdicts),
        Text(about),
        Fitted(("draft\nlength",), columns, lengths),
        *map(Text, below),
    )


def plan_document(plan: Plan) -> dict:
    """The JSON of a plan; what is infinite or unknown is null."""
    base = alone(plan.known, plan.prices)
    by_method: dict[str, dict[str, Any]] = {}
    for method, found in plan.by_method.items():
        even = farthest_ms(found)
        by_method[method] = {
            "best_draft_length": fastest(found).draft_length,
            "break_even_rtt_ms": _finite(even),
            "any_rtt": even == math.inf,
            **{
                f"{word}_draft_length": least.draft_length if (least := spent_least(found, name)) else None
                for word, name in LEAST.items()
            },
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
        "cloud_alone": {"ms_per_token": base.ms_per_token, **asdict(base.spent(plan.prices.costs))},
        "methods": by_method,
        "clients": {
            _served_by(method, length): load
            and {
                "clients": load.clients,
                "at_least": load.clients >= MOST_CLIENTS,
                "p95_ms_per_token": load.high_ms,
                "busy": load.busy,
                "tokens_per_pass": load.rows_per_pass,
                **asdict(spent(load.timed, plan.prices.costs, load.clients)),
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
