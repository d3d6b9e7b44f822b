"""The control: the cloud alone, through exactly the loop that speculation uses."""

from __future__ import annotations

from specbench.api import AutoregressiveDecoder, CloudModel, Decoder, EdgeModel, Method, Options, hookimpl


class CloudOptimizedBaseline(Method):
    """The target decodes alone, with the session, sampling, stop rules and engine of `speculative`."""

    name = "cloud_optimized_baseline"
    summary = "the cloud alone, token by token, through the loop of speculative: the control"
    roles = ("cloud",)
    api_version = 4
    takes_media = True

    def lossless(self, options: Options) -> bool:
        """It is what others are compared with."""
        return True

    def depends_on_time(self, options: Options) -> bool:
        """It decodes a token a pass, whatever that takes."""
        return False

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load the cloud model."""
        return AutoregressiveDecoder(cloud.target(options))


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return CloudOptimizedBaseline()
