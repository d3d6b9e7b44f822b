"""What replays, plans and sweeps say of energy and money: labelled as modelled, or as measured, everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from specbench.forecast.grid import Row
from specbench.forecast.objectives import CHEAPEST, FASTEST, GREENEST, LEAST, Choice, choices
from specbench.forecast.plan import Plan, alone, spent_least
from specbench.forecast.replay import spent
from specbench.forecast.spending import Modelled
from specbench.profile.cost_table import Costs
from specbench.results.records import CONTROL

ALONE, UNDECIDED = "the cloud alone", "undecided"
MODELLED_FOOT = (
    "Cheapest: price of a million tokens, in the table's currency. Greenest: joules a token. "
    "Energy and money are modelled by the cost table's power and prices, behind the first token. The edge is "
    "paid for and idles all the time; the cloud counts for what it computes alone, or, with clients, in equal "
    "parts."
)
MEASURED_FOOT = (
    "Cheapest: price of a million tokens by measured time and the profile's prices; the cloud is paid for the "
    "time it computes. Greenest: joules a token by the counters of edge and cloud. Both with prefill, and "
    "without intervals: 'specbench compare RUN --details' has those of the prices."
)


def label(rows: Sequence[Row]) -> str:
    """Where the rows' energy and money come from."""
    return "measured" if rows[0].measured else "modelled"


def heading(rows: Sequence[Row]) -> str:
    """What stands above the best by each objective."""
    return f"{label(rows).capitalize()}: fastest, cheapest and greenest way"


def foot(rows: Sequence[Row]) -> str:
    """What energy and money mean."""
    return MEASURED_FOOT if rows[0].measured else MODELLED_FOOT


def currency_of(costs: Costs) -> str:
    """The currency of a table's prices."""
    return costs.prices.currency if costs.prices else ""


def objective_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """The objectives of which the rows say something."""
    known = {name for each in choices(rows) for name in each.known}
    return tuple(name for name in (FASTEST, CHEAPEST, GREENEST) if name in known)


def other_objectives(rows: Sequence[Row]) -> tuple[str, ...]:
    """Those of them that are about energy and money."""
    return tuple(name for name in objective_columns(rows) if name != FASTEST)


def chosen_by(rows: Sequence[Row], objective: str) -> Callable[[Mapping[str, Row]], Choice | None]:
    """Finds what an objective wants under the condition of some rows of theirs."""
    found = {tuple(map(str, each.condition.values())): each.known.get(objective) for each in choices(rows)}
    return lambda by_method: found[tuple(map(str, next(iter(by_method.values())).condition.values()))]


def choice_cell(choice: Choice | None, objective: str) -> str:
    """The chosen method, with its figure."""
    if choice is None:
        return UNDECIDED if objective == FASTEST else "-"
    return f"{method_name(choice)} {choice_figure(choice, objective)}"


def choice_figure(choice: Choice, objective: str) -> str:
    """What an objective is about, and the draft length that it takes."""
    figures = {
        FASTEST: f"{choice.ms_per_token:.1f} ms",
        CHEAPEST: _money(choice.cost_per_million),
        GREENEST: _joules(choice.joules_per_token),
    }
    is_alone = choice.draft_length is None or choice.method == CONTROL
    return figures[objective] + ("" if is_alone else f" at {choice.draft_length}")


def choice_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a condition: its values, then the best by each objective."""
    names = objective_columns(rows)
    return [
        (*map(str, each.condition.values()), *(choice_cell(getattr(each, name), name) for name in names))
        for each in choices(rows)
    ]


def disagreement(rows: Sequence[Row]) -> str | None:
    """Where the objectives want different methods, in a sentence; `None` where nothing is known of them."""
    found, names = choices(rows), objective_columns(rows)
    if not found or len(names) < 2:
        return None
    apart = [each for each in found if not each.agree]
    what, said_how = _listed(names), label(rows).capitalize()
    if not apart:
        where = "" if len(found) == 1 else f" under all {len(found)} conditions"
        return f"{said_how}: the {what} are one method{where}."
    ways = Counter(tuple(method_name(getattr(each, name)) for name in names) for each in apart)
    ((most, count),) = ways.most_common(1)
    said = ", ".join(f"{name}: {method}" for name, method in zip(names, most, strict=True))
    if len(found) == 1:
        return f"{said_how}: the {what} are not one method ({said})."
    return (
        f"{said_how}: the {what} are not one method under {len(apart)} of {len(found)} conditions, most often "
        f"({count}) {said}."
    )


def plan_lines(plan: Plan) -> Iterator[str]:
    """What a plan says of energy and money, a sentence each; nothing without a power model and prices."""
    costs = plan.prices.costs
    base = alone(plan.known, plan.prices).spent(costs)
    if base == Modelled():
        return
    currency = currency_of(costs)
    yield f"modelled, the cloud alone: {told(base, currency)}"
    for method, found in plan.by_method.items():
        for word, name in LEAST.items():
            if least := spent_least(found, name):
                figures = told(least.spent, currency)
                yield f"modelled, {method}: {word} at draft length {least.draft_length}, {figures}"
    for method, (_, load) in plan.served.items():
        if load is not None:
            each = told(spent(load.timed, costs, load.clients), currency)
            yield f"modelled, {method} with {load.clients} clients on one target: {each}"
    if costs.prices and costs.prices.api_per_million_tokens is not None:
        yield f"a provider asks {costs.prices.api_per_million_tokens:g} {currency} for a million tokens"


def told(found: Modelled, currency: str) -> str:
    """What a token takes, in words."""
    parts = []
    if found.joules_per_token is not None:
        parts.append(
            f"{_joules(found.joules_per_token)} a token (edge {_joules(found.edge_joules_per_token)}, cloud "
            f"{_joules(found.cloud_joules_per_token)})"
        )
    if found.cost_per_million is not None:
        parts.append(f"{_money(found.cost_per_million)} {currency} a million tokens")
    return ", ".join(parts)


def method_name(choice: Choice | None) -> str:
    """What a choice is called."""
    if choice is None:
        return UNDECIDED
    return ALONE if choice.method == CONTROL else choice.method


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _joules(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} J"


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
