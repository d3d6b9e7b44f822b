"""What a user runs today: the cloud alone, through `model.generate`."""

from __future__ import annotations

from collections.abc import Iterator

from specbench.api import CloudModel, Decoder, EdgeModel, Method, Options, Request, Round, hookimpl


class GenerateDecoder(Decoder):
    """Streams the tokens of `model.generate`."""

    def __init__(self, cloud: CloudModel, options: Options) -> None:
        self._generate = cloud.generator(options.decoding)
        self.runs_on = cloud.is_wired  # here, `generate` waits until its next token is asked for

    def generate(self, request: Request) -> Iterator[Round]:
        """One round a token."""
        yield from self._generate(request)


class CloudBaseline(Method):
    """transformers' own loop: context for the control, which shares the loop of `speculative` instead."""

    name = "cloud_baseline"
    summary = "the cloud alone, through model.generate, as a user runs it"
    roles = ("cloud",)
    api_version = 4
    own_passes = True
    takes_media = True

    def lossless(self, options: Options) -> bool:
        """Its text is the cloud's."""
        return True

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load the cloud model."""
        cloud.load()
        return GenerateDecoder(cloud, options)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return CloudBaseline()
