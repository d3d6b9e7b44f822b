"""What the wire's service needs of the model that it serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from specbench.cloud.transport.answers import Metered
from specbench.cloud.transport.facts import Facts
from specbench.engine.session import Block, Passed
from specbench.profile import Decoding, Options
from specbench.results.ceilings import Ceiling
from specbench.results.records import Audit, Round
from specbench.speculation.recomputation import Recomputed
from specbench.speculation.request import Needs, Request
from specbench.speculation.target import LocalTarget
from specbench.speculation.ties import Evidence, Pass

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench.models.media import MediaReader


class Model(Protocol):
    """The model that is served, as far as its answers are no text of a method's."""

    @property
    def context_length(self) -> int | None:
        """Tokens that it was made for, where its configuration says so."""

    @property
    def engine_kind(self) -> str:
        """Which engine really runs the passes."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that lies beside the weights."""

    @property
    def media_reader(self) -> MediaReader:
        """The processor that lies beside the weights."""

    def evidence(
        self,
        options: Options,
        request: Request,
        text: Sequence[int],
        passes: Sequence[Pass],
        pair: tuple[int, int],
    ) -> Evidence:
        """Whether two tokens were tied; see `speculation.ties.evidence`."""

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
        """Whether a text is what a pass without a cache says; see `speculation.recomputation`."""

    def audit(self) -> Audit:
        """What precision the loaded model has now."""

    def ceiling(self) -> Ceiling:
        """What memory allows the model now."""


class Metering(Protocol):
    """What knows the counters of energy beside the model that is served."""

    def told(self, number: int, edges: int) -> Metered:
        """What they say now, in answer to a frame of this number."""


class Host(Protocol):
    """What hands out targets on the model that is served."""

    @property
    def facts(self) -> Facts:
        """What the cloud says of itself."""

    @property
    def model(self) -> Model:
        """What is served."""

    @property
    def metering(self) -> Metering:
        """The counters of energy of this machine."""

    def target(self, options: Options, rolls_back: bool, draft: str | None, needs: Needs) -> LocalTarget:
        """The model as one that decides a text, of which drafts can be taken back if need be.

        Args:
            draft: the fingerprint of the draft that it is to run by itself.
            needs: what else is asked of one that verifies.
        """

    def drafting(self) -> tuple[str, Audit]:
        """What runs the passes of its own draft, and what precision that has now."""

    def pass_together(self, blocks: Sequence[Block]) -> list[Passed | Exception]:
        """Read blocks of several texts in one pass; for each what it got, or what went wrong with it."""

    def generate(self, request: Request, decoding: Decoding) -> Iterator[Round]:
        """`model.generate`, streamed."""
