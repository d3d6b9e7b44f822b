"""The profile's link, and the settings of it that contradict each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from specbench.profile.part import Name, Part


class LinkSpec(Part):
    """What lies between edge and cloud."""

    kind: Literal["modelled", "emulated", "real"] = Field(
        default="modelled",
        description="`modelled` delays every message inside specbench. `emulated` sends real packets "
        "between two network namespaces (`specbench link up`). `real` is the network between two hosts: "
        "measured, not set.",
    )
    rtt_ms: Annotated[float, Field(ge=0, le=60_000)] = Field(
        default=0.0, description="Round trip of an empty message: half of it each way."
    )
    jitter_ms: Annotated[float, Field(ge=0, le=30_000)] = Field(
        default=0.0,
        description="Each way takes up to this much more or less, and no message overtakes another. At most "
        "half of `rtt_ms`.",
    )
    uplink_mbps: Annotated[float, Field(ge=0.001)] | None = Field(
        default=None, description="Rate from edge to cloud. null is no limit."
    )
    downlink_mbps: Annotated[float, Field(ge=0.001)] | None = Field(
        default=None, description="Rate from cloud to edge. null is no limit."
    )
    loss: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0, description="Share of packets that are lost, each way."
    )
    trace: Name | None = Field(
        default=None,
        description="`builtin`, or a CSV file of time, rate and delay. It replaces `rtt_ms` and both rates. "
        "For `modelled` only.",
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> LinkSpec:
        rates = self.uplink_mbps, self.downlink_mbps
        if self.kind == "real" and self.is_set:
            raise ValueError("a real link is measured, not set; drop what is set, or choose another kind")
        if self.kind == "emulated" and self.trace is not None:
            raise ValueError("only a modelled link plays a trace")
        if self.trace is not None and (self.rtt_ms or rates != (None, None)):
            raise ValueError("a trace says delay and rate; drop rtt_ms, uplink_mbps and downlink_mbps")
        if self.trace is None and self.jitter_ms > self.rtt_ms / 2:
            raise ValueError(
                f"jitter_ms is {self.jitter_ms:g} and one way of rtt_ms is {self.rtt_ms / 2:g}: no message "
                "arrives before it was sent"
            )
        return self

    @property
    def is_set(self) -> bool:
        """Whether anything is asked of the link."""
        rates = self.uplink_mbps, self.downlink_mbps
        return bool(self.rtt_ms or self.loss or self.trace or rates != (None, None))

    @property
    def is_empty(self) -> bool:
        """Whether there is no link at all."""
        return self.kind == "modelled" and not self.is_set
