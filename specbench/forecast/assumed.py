"""Which values of a cost table nobody measured or gave, so that no figure rests on them unseen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from specbench.errors import ExitCode, SpecbenchError
from specbench.forecast.known import CLIENT_PROMPT, CLIENT_TOKENS, Known
from specbench.profile.cost_table import Costs
from specbench.profile.loading import validated

STEP_MS, COST_RATIO, WIDTH_COST = 30.0, 0.1, 0.02
RATES = ("link.uplink_mbps", "link.downlink_mbps")
MEANINGS = {
    "draft.overlap_slowdown": "draft and target do not slow each other down (draft)",
    "target.overlap_slowdown": "draft and target do not slow each other down (target)",
    "draft.read_ms": "additional tokens in a draft pass take no time",
    "link.rtt_ms": "no round trip",
    "link.overhead_ms": "messages take no time beyond the round trip",
    "link.uplink_mbps": "unlimited uplink rate",
    "link.downlink_mbps": "unlimited downlink rate",
    "round_ms": "a round takes no time beyond drafting, link and verification",
    "stream_ms": "streaming takes the server no time beyond its passes",
    "colocated_step_ms": "a draft step in the cloud takes the edge's time, divided by target.speed",
}
SIZES = {
    "bytes.per_message": "bytes of a message",
    "bytes.up_per_token": "bytes of a drafted token",
    "bytes.down_per_token": "bytes of a committed token",
}


@dataclass(frozen=True)
class Assumption:
    """A value that is assumed: its key in the cost table, and in words what it means."""

    key: str
    value: object
    text: str


def assumptions(costs: Costs, given: Collection[str] = ()) -> list[Assumption]:
    """The values of a table that are nothing but defaults, and what is extrapolated from the others.

    Args:
        costs: only fields that were measured or written down are set in it.
        given: keys that get a value afterwards.
    """
    rates = [getattr(costs.link, key.partition(".")[2]) for key in RATES]
    has_rate = any(rates) or not set(RATES).isdisjoint(given)
    found = [
        Assumption(key, value, text.format(value=value))
        for key, text in (MEANINGS | (SIZES if has_rate else {})).items()
        for value, is_set in [_value(costs, key)]
        if not is_set and key not in given
    ]
    return [*_widths(costs), *found]


def assumed_acceptance(known: Known) -> list[Assumption]:
    """What is assumed of acceptance by position that another tool measured."""
    if known.texts or not known.label:
        return []
    chances = known.survival.conditional
    text = f"{known.label}; behind position {len(chances)} as at that position"
    return [Assumption("acceptance", chances, text)]


def assumed_texts(costs: Costs, has_trace: bool) -> list[Assumption]:
    """What is assumed of texts where clients of one target are counted."""
    found = []
    if not has_trace:
        text = f"a client's texts have {CLIENT_TOKENS} tokens after prompts of {CLIENT_PROMPT}"
        found.append(Assumption("texts", CLIENT_TOKENS, text))
    if costs.target.prefill_ms is None:
        found.append(Assumption("target.prefill_ms", None, "reading a prompt takes no time"))
    return found


def by_numbers(
    found: Costs | None, step_ms: float | None, cost_ratio: float | None, width_cost: float | None
) -> tuple[Costs, list[Assumption]]:
    """A table from three numbers, and what is assumed in it.

    Args:
        found: costs of a run, which say what is not given; without them the numbers are assumed.
        step_ms: of the target alone.
        cost_ratio: a step of the draft, in steps of the target.
        width_cost: what each token more adds to a verification, in steps of the target.

    Raises:
        SpecbenchError: a number is not positive, or the run tells no step of the target.
    """
    if found and step_ms is None and 1 not in found.target.verify_ms:
        raise SpecbenchError(
            f"{found.description} has no control, so the target step time is unknown",
            "pass --step-ms, or plan from a run that has the control",
        )
    if found and step_ms is cost_ratio is width_cost is None:
        return found, assumptions(found)
    step, ratio, width = _numbers(found, step_ms)
    numbers = (
        ("target.verify_ms", step_ms, step, STEP_MS, "a target step takes {:g} ms (--step-ms)"),
        (
            "draft.step_ms",
            cost_ratio,
            ratio,
            COST_RATIO,
            "a draft step takes {:g} of a target step (--cost-ratio)",
        ),
        (
            "target.verify_ms",
            width_cost,
            width,
            WIDTH_COST,
            "each additional verified token adds {:g} of a target step (--width-cost)",
        ),
    )
    chosen, assumed = [], []
    for key, given, known, default, text in numbers:
        value = next(number for number in (given, known, default) if number is not None)
        if given is known is None:
            assumed.append(Assumption(key, value, text.format(value)))
        chosen.append(value)
    table = _table(found, *chosen)
    return table, [*assumed, *(each for each in assumptions(table) if each.key != "target.verify_ms")]


def _numbers(found: Costs | None, step_ms: float | None) -> tuple[float | None, float | None, float | None]:
    """What a run says of the three numbers."""
    if found is None:
        return None, None, None
    verify_ms = found.target.verify_ms
    step, widest = verify_ms.get(1, step_ms or STEP_MS), max(verify_ms)
    width = max(0.0, verify_ms[widest] / step - 1) / (widest - 1) if widest > 1 else None
    return step, found.draft.step_ms / step, width


def _table(found: Costs | None, step_ms: float, cost_ratio: float, width_cost: float) -> Costs:
    values = {
        "draft": {"step_ms": step_ms * cost_ratio},
        "target": {"verify_ms": {1: step_ms, 2: step_ms * (1 + width_cost)}},
    }
    made = validated(Costs, values, "--step-ms, --cost-ratio and --width-cost", ExitCode.USAGE)
    if found is None:
        return made
    # Beside the target the draft has the target's hardware, of which the run no longer speaks.
    kept = {name: getattr(found, name) for name in found.model_fields_set - {"colocated_step_ms"}}
    kept["description"] = f"{found.description}, with numbers by hand"
    return Costs(**{**kept, "draft": made.draft.model_copy(update={"read_ms": 0.0}), "target": made.target})


def _value(costs: Costs, key: str) -> tuple[object, bool]:
    """A value of a table, and whether it was set."""
    part, _, name = key.rpartition(".")
    holder = getattr(costs, part) if part else costs
    is_set = name in holder.model_fields_set and (not part or part in costs.model_fields_set)
    return getattr(holder, name), is_set


def _widths(costs: Costs) -> list[Assumption]:
    """What verifications take whose width is not in the table."""
    known = sorted(costs.target.verify_ms)
    if len(known) == 1:
        return [Assumption("target.verify_ms", None, "a verification of any width takes as long as a step")]
    text = f"beyond {known[-1]} tokens a verification grows as from {known[-2]} to {known[-1]}"
    return [Assumption("target.verify_ms", None, text)]
