"""Cost tables: what each part of a round takes, measured or written by hand for hardware that is not here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from specbench.errors import ExitCode, SpecbenchError, StoreError
from specbench.profile.loading import validated
from specbench.profile.part import Part
from specbench.profile.price_list import PriceList
from specbench.profile.yaml_text import as_page, read_mapping

COSTS_VERSION = 1

# What is divided by a cost, or is a sum of many, must stay a number.
Milliseconds = Annotated[float, Field(ge=0, le=1e12)]
Positive = Annotated[float, Field(ge=1e-9, le=1e12)]
Watts = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=1)]
ByCount = dict[Count, Milliseconds]


class _Timed(Part):
    """Times of one model. `speed` divides all of them: 2 is hardware that is twice as fast.

    `overlap_slowdown` is how many times as long it computes while the other model does so too, as it does where
    both share the memory of one machine.
    """

    speed: Positive = 1.0
    overlap_slowdown: Annotated[float, Field(ge=1, le=1e6)] = 1.0
    prefill_ms: ByCount | None = None

    @field_validator("prefill_ms", "verify_ms", mode="before", check_fields=False)
    @classmethod
    def _counts_are_numbers(cls, value: object) -> object:
        """JSON knows no other keys than text."""
        if value == {}:
            raise ValueError("it takes at least one entry, such as {1: 30.0}")
        return {_number(key): item for key, item in value.items()} if isinstance(value, dict) else value


class DraftCosts(_Timed):
    """The draft model on the edge.

    `step_ms` is a pass over one token; each further token that the same pass reads adds `read_ms`. `prefill_ms`
    is by prompt tokens; between two counts the time is interpolated, here and everywhere.
    """

    step_ms: Positive
    read_ms: Milliseconds = 0.0


class TargetCosts(_Timed):
    """The target model in the cloud.

    `verify_ms` is by tokens of the pass: one is a plain step, a draft of n takes n + 1. Beyond the widest one
    the last slope goes on; a single entry says that width costs nothing. `restores_state`: behind a refusal an
    earlier state of the model is restored, and the next pass reads again what was accepted since.
    """

    verify_ms: dict[Count, Positive]
    restores_state: bool = False


class LinkCosts(Part):
    """Between edge and cloud; half of `rtt_ms` each way. No rate means an infinite one.

    `overhead_ms` is what a message and its answer take on any link: packing, and waking who waits for them.
    """

    rtt_ms: Milliseconds = 0.0
    overhead_ms: Milliseconds = 0.0
    uplink_mbps: Positive | None = None
    downlink_mbps: Positive | None = None


class Bytes(Part):
    """What crosses the link: a message, and each token in it. `up_per_token` is a drafted one, with its
    distribution where the rule sends that.
    """

    per_message: Annotated[int, Field(ge=0, le=10**12)] = 20
    up_per_token: Annotated[float, Field(ge=0, le=1e12)] = 3.0
    down_per_token: Annotated[float, Field(ge=0, le=1e12)] = 3.0

    def up(self, drafted: float) -> float:
        """A draft."""
        return self.per_message + drafted * self.up_per_token

    def down(self, committed: float) -> float:
        """Committed tokens."""
        return self.per_message + committed * self.down_per_token


class Power(Part):
    """A model of what hardware takes that is not here; figures made of it are modelled, not measured.

    The edge takes `edge_idle_w` all the time and `draft_w` in its place while it drafts, the target `verify_w`
    while it computes and `cloud_idle_w` else; each byte on the link takes the edge `radio_j_per_byte`.
    """

    edge_idle_w: Watts
    draft_w: Watts
    cloud_idle_w: Watts
    verify_w: Watts
    radio_j_per_byte: Annotated[float, Field(ge=0, le=1e3)]

    @model_validator(mode="after")
    def _computing_takes_more(self) -> Power:
        for idle, busy in (("edge_idle_w", "draft_w"), ("cloud_idle_w", "verify_w")):
            if getattr(self, idle) > getattr(self, busy):
                raise ValueError(f"{idle} is above {busy}, which is the power in all while it computes")
        return self


class Costs(Part):
    """A cost table.

    `round_ms` is what a round takes besides drafting, link and verification, `stream_ms` what each part of a
    stream takes the server besides its passes. `colocated_step_ms` is the draft's
    step where it runs beside the target, and is divided by `target.speed`; `draft.step_ms` when absent. Energy
    and money are modelled where there are `power` and `prices`.
    """

    schema_version: Annotated[int, Field(ge=COSTS_VERSION, le=COSTS_VERSION)] = COSTS_VERSION
    description: str = ""
    draft: DraftCosts
    target: TargetCosts
    link: LinkCosts = LinkCosts()
    bytes: Bytes = Bytes()
    round_ms: Milliseconds = 0.0
    stream_ms: Milliseconds = 0.0
    colocated_step_ms: Positive | None = None
    power: Power | None = None
    prices: PriceList | None = None

    @property
    def is_spending_known(self) -> bool:
        """Whether energy or money can be modelled."""
        return self.power is not None or (self.prices is not None and self.prices.is_set)

    def with_values(self, values: dict[str, object]) -> Costs:
        """The same table with some values replaced, by dotted key such as `link.rtt_ms`.

        Raises:
            SpecbenchError: there is no such key, or it does not take that value.
        """
        table = self.model_dump()
        for key, value in values.items():
            here = table
            *parts, last = key.split(".")
            for part in parts:
                below = here.get(part)
                here = below if isinstance(below, dict) else {}
            if last not in here or isinstance(here[last], dict):
                raise SpecbenchError(
                    f"a cost table has no value '{key}'", "such as link.rtt_ms, target.speed or draft.step_ms"
                )
            here[last] = value
        return validated(Costs, table, "the cost table", ExitCode.USAGE)


def read_costs(path: Path) -> Costs:
    """The cost table in a YAML or JSON file.

    Raises:
        SpecbenchError: it cannot be read, or a key is unknown, missing or wrong.
    """
    values = read_mapping(path, "cost table", ExitCode.USAGE)
    return validated(Costs, values, f"cost table {path}", ExitCode.USAGE)


def write_costs(path: Path, costs: Costs) -> None:
    """Write a table as YAML that reads well.

    Raises:
        SpecbenchError: the file cannot be written.
    """
    try:
        path.write_text(as_page(costs.model_dump(mode="json")), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def _number(key: object) -> object:
    return int(key) if isinstance(key, str) and key.isdecimal() else key
