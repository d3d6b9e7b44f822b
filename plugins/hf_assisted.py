"""transformers' assisted generation: what a user who has a draft model runs today, and its own schedule."""

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


class HfAssistedDecoder(Decoder):
    """Streams the blocks of `model.generate(assistant_model=...)`."""

    def __init__(self, edge: EdgeModel, cloud: CloudModel, options: Options, dynamic: bool) -> None:
        self._assisted = cloud.assisted(edge, options, dynamic)

    def generate(self, request: Request) -> Iterator[Round]:
        """One round a pass of the target; the first may commit drafted tokens too."""
        return self._assisted.rounds(request)


class HfAssisted(Method):
    """A reference for `speculative`: the same pair and draft length, transformers' own loop."""

    name = "hf_assisted"
    summary = "the edge drafts and the cloud verifies, inside transformers' model.generate"
    roles = ("edge", "cloud")
    api_version = 4
    own_passes = True
    needs_eager = True
    dynamic = False

    def lossless(self, options: Options) -> bool:
        """Its text is the cloud's, or drawn from its distribution (proof: docs/explanation/neighbours.md)."""
        return True

    def validate(self, options: Options) -> None:
        """`generate` knows one rule for argmax and one for sampling, and neither can be exchanged."""
        verification, temperature = options.speculative.verification, options.decoding.temperature
        known = "rejection" if temperature > 0 else "greedy"
        if verification not in (known, "rejection"):
            raise SpecbenchError(
                f"speculative.verification: {verification} is not supported by {self.name} at "
                f"decoding.temperature: {temperature}",
                f"add --set speculative.verification={known}",
            )
        if options.speculative.draft_length == "auto" and not self.dynamic:
            raise SpecbenchError(
                f"speculative.draft_length: auto is not supported by {self.name}",
                "add --set speculative.draft_length=4, or run hf_assisted_dynamic",
            )
        if unknown := options.decoding.beyond(
            "temperature", "top_p", "top_k", "repetition_penalty", "ignore_eos", "stop"
        ):
            raise SpecbenchError(
                f"decoding.{next(iter(unknown))} is not supported by {self.name}",
                "leave it at its default, or run speculative",
            )
        if options.speculative.gate:
            raise SpecbenchError(
                f"speculative.gate is not supported by {self.name}", "add --set speculative.gate=null"
            )
        if options.speculative.confidence_stop is not None:
            raise SpecbenchError(
                f"speculative.confidence_stop is not supported by {self.name}",
                "add --set speculative.confidence_stop=null",
            )
        if options.speculative.synthetic_acceptance is not None:
            raise SpecbenchError(
                f"speculative.synthetic_acceptance is not supported by {self.name}",
                "add --set speculative.synthetic_acceptance=null",
            )

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models."""
        return HfAssistedDecoder(edge, cloud, options, self.dynamic)


class HfAssistedDynamic(HfAssisted):
    """Drafts until the draft is no longer sure (Mamou et al. 2024); the profile's draft length has no part."""

    name = "hf_assisted_dynamic"
    summary = "hf_assisted, drafting until the draft is no longer sure: transformers' default"
    dynamic = True


@hookimpl
def specbench_method() -> list[Method]:
    """Return the methods that this plugin brings."""
    return [HfAssisted(), HfAssistedDynamic()]
