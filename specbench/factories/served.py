"""A cloud model as the wire's service needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from specbench import audit, environment
from specbench.config import Decoding, Options
from specbench.decoding.proof import Evidence, Pass
from specbench.decoding.recomputation import Recomputed
from specbench.decoding.request import Request
from specbench.decoding.session import Block, Passed
from specbench.decoding.target import LocalTarget
from specbench.errors import SpecbenchError
from specbench.factories.local import LocalCloud
from specbench.factories.model import ModelFactory
from specbench.records import Audit, Round
from specbench.wire.protocol import Facts


class Served:
    """Hands out targets on one loaded model; sessions share its weights."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    @cached_property
    def facts(self) -> Facts:
        """What the cloud says of itself; loads the model."""
        import torch

        from specbench.models import files, storage, vocabulary

        cloud = self._cloud
        engine, spec, ceiling = cloud.engine, cloud.spec, ModelFactory.ceiling(cloud)
        return Facts(
            model=spec.model,
            files=files.fingerprint(engine.loaded.folder),
            stored=storage.stored_as(engine.loaded.folder),
            tokenizer_sha256=vocabulary.fingerprint(cloud.tokenizer),
            layers=spec.layers,
            dtype=spec.dtype,
            engine_kind=cloud.engine_spec.kind,
            batch_invariant=cloud.engine_spec.batch_invariant,
            engine=engine.kind,
            threads=torch.get_num_threads(),
            ranks=spec.ranks,
            sessions=spec.batch.sessions,
            wait_ms=spec.batch.wait_ms,
            vocabulary_size=engine.vocabulary_size,
            versions=environment.versions(),
            machine=environment.machine(),
            switches=self.switches(),
            audit=self.audit(),
            weight_bytes=ceiling.weight_bytes if spec.ranks == 1 else None,  # each rank reads a share
            bytes_per_second=ceiling.bytes_per_second,
            reader=ceiling.reader,
        )

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was made for."""
        return self._cloud.context_length

    def target(self, options: Options, rolls_back: bool, draft: str | None = None) -> LocalTarget:
        """The model as one that decides a text; with the fingerprint of a draft, one that speculates by itself.

        Raises:
            SpecbenchError: there is no such draft here, or a cache cannot be rolled back.
        """
        if draft is not None:
            own = self._cloud.draft
            if own is None:
                raise SpecbenchError("this cloud has no draft", "specbench serve --draft loads one")
            if own.fingerprint != draft:
                raise SpecbenchError(
                    "the cloud's draft is another one than the profile's edge model here",
                    "serve the profile that the edge runs: files, layers and dtype are compared",
                )
            return self._cloud.speculating(own, options)
        if rolls_back:
            self._cloud.engine.require_rollback()
        return ModelFactory.target(self._cloud, options)

    def drafting(self) -> tuple[str, Audit]:
        """What runs the passes of its own draft, and what precision that has now."""
        draft = self._cloud.draft
        assert draft is not None
        return draft.engine_kind, draft.audit()

    def pass_together(self, blocks: Sequence[Block]) -> list[Passed | Exception]:
        """Read blocks of several texts in one pass; for each what it got, or what went wrong with it."""
        from specbench.decoding.batch import together

        return together(self._cloud.engine, blocks)

    def generate(self, request: Request, decoding: Decoding) -> Iterator[Round]:
        """`model.generate`, streamed."""
        from specbench.decoding.generate import generate_commits

        return generate_commits(self._cloud.engine.loaded, request, decoding)

    def evidence(
        self,
        options: Options,
        request: Request,
        text: Sequence[int],
        passes: Sequence[Pass],
        pair: tuple[int, int],
    ) -> Evidence:
        """Whether two tokens were tied."""
        from specbench.decoding import proof

        return proof.evidence(self._cloud.engine, options, request, text, passes, pair)

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
        """Whether a text of the control is what a pass without a cache says."""
        from specbench.decoding import recomputation

        return recomputation.recomputed(self._cloud.engine, options, request, text)

    def audit(self) -> Audit:
        """What precision the loaded model has now."""
        return self._cloud.audit()

    def bytes_per_second(self) -> float:
        """How fast memory is read now, in reads of the model's size."""
        return ModelFactory.ceiling(self._cloud).bytes_per_second

    def switches(self) -> dict[str, str | bool | None]:
        """What the arithmetic of this process is now."""
        return audit.switches.read()
