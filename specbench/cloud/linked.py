"""The target model in this process, behind a modelled link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.cloud.local import LocalCloud
from specbench.cloud.wired import WiredCloud

if TYPE_CHECKING:
    from specbench.cloud.transport.channel import Channel


class LinkedCloud(WiredCloud, LocalCloud, runs="behind a link"):
    """The target model in a thread of this process: what a method sends to it crosses the profile's link.

    What is no method's text, such as proofs and audits, is asked of the model itself.
    """

    def load(self) -> None:
        """Load the model, and open the link."""
        LocalCloud.load(self)
        WiredCloud.load(self)

    def _connect(self) -> Channel:
        from specbench.cloud.served import Served
        from specbench.cloud.server.local_channel import LocalChannel

        served = Served(self)
        _ = served.facts  # loads the model in this thread, where errors are heard
        return self._behind_link(LocalChannel(served))
