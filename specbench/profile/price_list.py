"""What machines, bytes and tokens are paid for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.profile.part import Name, Part

Price = Annotated[float, Field(ge=0, le=1e9)]


class PriceList(Part):
    """Prices, in one currency. What has none is left out of costs, and tables say so."""

    currency: Name = Field(default="USD", description="Currency of all prices.")
    edge_per_hour: Price | None = Field(default=None, description="An edge device, per hour.")
    cloud_per_hour: Price | None = Field(
        default=None, description="The target's machine, such as a GPU, per hour."
    )
    network_per_gb: Price | None = Field(
        default=None, description="The link, per 10^9 bytes of encoded frames, both ways."
    )
    api_per_million_tokens: Price | None = Field(
        default=None,
        description="What a provider asks for a million tokens that the same target writes. It is shown beside "
        "the costs and is a part of none.",
    )

    @property
    def is_set(self) -> bool:
        """Whether anything has a price that a cost can be made of."""
        return any(
            price is not None for price in (self.edge_per_hour, self.cloud_per_hour, self.network_per_gb)
        )

    @property
    def unpriced(self) -> tuple[str, ...]:
        """What has no price."""
        named = {"edge": self.edge_per_hour, "cloud": self.cloud_per_hour, "network": self.network_per_gb}
        return tuple(name for name, price in named.items() if price is None)

    def cost(self, edge_s: float, cloud_s: float, sent_bytes: float) -> float:
        """What so much use of each costs; what has no price costs nothing."""
        parts = (
            (self.edge_per_hour, edge_s / 3600),
            (self.cloud_per_hour, cloud_s / 3600),
            (self.network_per_gb, sent_bytes / 1e9),
        )
        return sum((price or 0.0) * used for price, used in parts)
