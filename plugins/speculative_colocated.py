"""Speculation with both models in the cloud: the control without which edge-cloud claims mean little."""

from __future__ import annotations

from specbench.api import (
    AutoregressiveDecoder,
    CloudModel,
    Decoder,
    EdgeModel,
    Method,
    Options,
    SpeculativeMethod,
    hookimpl,
)


class SpeculativeColocated(SpeculativeMethod):
    """Where the cloud can hold both models it should win on latency (arXiv 2606.25091).

    A gate is refused: what it lets pass is not verified, and here verification has no round trip to save. For
    the same reason the draft waits for each verdict, whatever window the profile has.
    """

    name = "speculative_colocated"
    summary = "speculative with both models in the cloud, streamed to the edge"
    api_version = 4
    takes_confidence_stop = True

    def _demand_window(self, options: Options) -> None:
        """Any will do: nothing is in flight."""

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models where the cloud is; the loop runs there."""
        return AutoregressiveDecoder(cloud.colocated(edge, options))


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeColocated()
