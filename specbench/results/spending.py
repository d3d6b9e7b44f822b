"""What a method takes in energy and in money, worked out from records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RoleEnergy:
    """Measured energy of the models that compute beside the same counters, prefill included.

    Args:
        roles: whose energy it is; of two roles it is joint, and nobody measured the parts.
        counters: that were added up.
        joules_per_token: all that the counters said, over all committed tokens.
        above_idle_joules_per_token: the same without what they say while nothing is computed, `idle_watts`.
    """

    roles: tuple[str, ...]
    counters: tuple[str, ...]
    joules_per_token: float
    above_idle_joules_per_token: float | None
    idle_watts: float | None


@dataclass(frozen=True)
class Money:
    """What a million committed tokens cost by measured time, prefill included, and the profile's prices.

    Args:
        reserved: edge and cloud are paid for from request to last token, as if nobody else used them.
        shared: the cloud is paid for the time it computes alone, as if others filled its waits; `None` where
            that is not known.
        unpriced: what is a part of neither: it has no price, or no bytes were counted.
        api: what a provider asks for a million tokens.
    """

    currency: str
    reserved: float
    reserved_interval: tuple[float, float] | None
    shared: float | None
    shared_interval: tuple[float, float] | None
    unpriced: tuple[str, ...] = ()
    api: float | None = None
