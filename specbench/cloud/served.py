"""A cloud model as the wire's service needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from msgspec.structs import replace

from specbench import precision
from specbench.cloud.local import LocalCloud
from specbench.cloud.metering import CloudMetering
from specbench.cloud.transport.facts import LONGEST_TEXT, Facts, ServedProfile
from specbench.engine.session import Block, Passed
from specbench.errors import SpecbenchError
from specbench.profile import Decoding, Options
from specbench.results import environment
from specbench.results.records import Audit, Round
from specbench.speculation.request import Needs, Request
from specbench.speculation.target import LocalTarget


class Served:
    """Hands out targets on one loaded model; sessions share its weights.

    It makes no use of the model's own `target` and `generate`: those of a `LinkedCloud` lead back here.
    """

    def __init__(self, model: LocalCloud) -> None:
        self.model = model

    @cached_property
    def metering(self) -> CloudMetering:
        """The counters of energy of this machine."""
        return CloudMetering(self.model)

    @cached_property
    def facts(self) -> Facts:
        """What the cloud says of itself; loads the model."""
        import torch

        from specbench.models import files, storage, vocabulary

        cloud = self.model
        engine, spec, ceiling = cloud.engine, cloud.spec, cloud.ceiling()
        profile = replace(ServedProfile.of(spec, cloud.engine_spec), threads=torch.get_num_threads())
        if profile.engine == "auto":
            profile = replace(profile, engine=engine.kind)
        return Facts(
            model=spec.model,
            files=files.fingerprint(engine.loaded.folder),
            stored=storage.stored_as(engine.loaded.folder),
            tokenizer_sha256=vocabulary.fingerprint(cloud.tokenizer),
            profile=profile,
            profile_sha256=profile.sha256,
            engine=engine.kind,
            vocabulary_size=engine.vocabulary_size,
            versions=environment.versions(),
            machine=environment.machine(),
            switches=precision.switches.read(),
            audit=cloud.audit(),
            weight_bytes=ceiling.weight_bytes if spec.ranks == 1 else None,  # each rank reads a share
            bytes_per_second=ceiling.bytes_per_second,
            reader=ceiling.reader,
            engine_note=cloud.engine_note[:LONGEST_TEXT],
        )

    def target(
        self, options: Options, rolls_back: bool, draft: str | None = None, needs: Needs | None = None
    ) -> LocalTarget:
        """The model as one that decides a text; with the fingerprint of a draft, one that speculates by itself.

        Raises:
            SpecbenchError: there is no such draft here, a cache cannot be rolled back, or the engine reads no
                trees, which the method needs.
        """
        if draft is not None:
            own = self.model.draft
            if own is None:
                raise SpecbenchError("the server has no draft model", "start it with 'specbench serve --draft'")
            if own.fingerprint != draft:
                raise SpecbenchError(
                    "the server's draft differs from the profile's edge model",
                    "serve the profile that the edge runs: files, layers and dtype are compared",
                )
            return self.model.speculating(own, options)
        if rolls_back:
            return self.model.verifying(options, needs)
        return self.model.target_here(options)

    def drafting(self) -> tuple[str, Audit]:
        """What runs the passes of its own draft, and what precision that has now."""
        draft = self.model.draft
        assert draft is not None
        return draft.engine_kind, draft.audit()

    def pass_together(self, blocks: Sequence[Block]) -> list[Passed | Exception]:
        """Read blocks of several texts in one pass; for each what it got, or what went wrong with it."""
        from specbench.engine.batch import together

        return together(self.model.engine, blocks)

    def generate(self, request: Request, decoding: Decoding) -> Iterator[Round]:
        """`model.generate`, streamed."""
        from specbench.speculation.generate import generate_commits

        return generate_commits(self.model.engine.loaded, request, decoding)
