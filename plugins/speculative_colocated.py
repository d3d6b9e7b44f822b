"""Speculation with both models in the cloud: the control without which edge-cloud claims mean little."""

from __future__ import annotations

from collections.abc import Iterator

from specbench.api import (
    CloudModel,
    Decoder,
    EdgeModel,
    Method,
    Options,
    Request,
    Round,
    SpecbenchError,
    hookimpl,
)

from .speculative import SpeculativeDecoding


class ColocatedDecoder(Decoder):
    """The rounds of `speculative`, run where the target is and streamed to the edge."""

    def __init__(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> None:
        self._target = cloud.colocated(edge, options)
        self.runs_on = self._target.streams

    def generate(self, request: Request) -> Iterator[Round]:
        """One request; what the cloud commits arrives as it commits it."""
        commit = self._target.begin(request)
        yield commit.round()
        if commit.finish_reason is None:
            for commit in self._target.decode():
                yield commit.round(drafted=commit.drafted, draft_ms=commit.draft_ms, verify_ms=commit.verify_ms)

    def check(self) -> None:
        """The target's cache length."""
        self._target.check()


class SpeculativeColocated(SpeculativeDecoding):
    """Where the cloud can hold both models it should win on latency (arXiv 2606.25091)."""

    name = "speculative_colocated"
    summary = "speculative with both models in the cloud, streamed to the edge"

    def validate(self, options: Options) -> None:
        """What a gate lets pass is not verified, and here there is nothing that verification would cost."""
        super().validate(options)
        if options.speculative.gate:
            raise SpecbenchError(
                f"speculative.gate is not known to {self.name}", "add --set speculative.gate=null"
            )

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models where the cloud is."""
        return ColocatedDecoder(edge, cloud, options)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeColocated()
