"""The edge alone: the draft model decides every token, and the cloud has no part."""

from __future__ import annotations

from specbench.api import AutoregressiveDecoder, CloudModel, Decoder, EdgeModel, Method, Options, hookimpl


class EdgeBaseline(Method):
    """The draft model by itself: the fastest text, and not the target's."""

    name = "edge_baseline"
    summary = "the edge alone, token by token"
    roles = ("edge",)
    api_version = 4
    takes_media = True

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load the edge model."""
        return AutoregressiveDecoder(edge.target(options))


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return EdgeBaseline()
