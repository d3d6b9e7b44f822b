"""A cloud that a vLLM server runs: its tokenizer is read here, its weights are not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from specbench.cloud.handle import CloudModel
from specbench.cloud.vllm.client import VllmFacts, VllmServer
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Decoding, Options

if TYPE_CHECKING:
    from specbench.cloud.vllm.target import VllmTarget
    from specbench.results.records import Audit, Round
    from specbench.roles.edge import EdgeModel
    from specbench.speculation.request import Needs, Request
    from specbench.speculation.ties import Evidence, Pass

logger = logging.getLogger(__name__)

PROBE = "The edge drafts, the cloud verifies: 12 + 30 = 42; naïve 東京.\n"


class VllmCloud(CloudModel):
    """The target model, on a vLLM server: decodes alone, or verifies drafts by prompt log-probabilities."""

    _facts: VllmFacts | None = None

    @property
    def facts(self) -> VllmFacts:
        """What the server says of itself; reached, and held against the profile, when first asked for.

        Raises:
            SpecbenchError: it is not there, is no vLLM server, or has another model than the profile's.
        """
        if self._facts is None:
            self._facts = self._asked_facts()
        return self._facts

    def _asked_facts(self) -> VllmFacts:
        logger.info("connecting to the vLLM server at %s", self.spec.placement)
        facts = self._aside_server.look()
        if facts.dtype is not None and facts.dtype.removeprefix("torch.") != self.dtype:
            raise self._other("cloud.dtype", self.dtype, facts.dtype.removeprefix("torch."))
        ours, theirs = self._probe, self._aside_server.tokenized(PROBE)
        if theirs is None:
            logger.warning(
                "%s has no /tokenize endpoint, so its tokenizer cannot be checked", self.spec.placement
            )
        elif theirs != ours:
            raise self._other("the tokenizer's reading of a sentence", ours, theirs)
        return facts

    @property
    def is_loaded(self) -> bool:
        """Whether the server was reached."""
        return self._facts is not None

    def load(self) -> None:
        """Reach the server."""
        _ = self.facts

    def demand_here(self) -> NoReturn:
        """Refuse: the weights are not here.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError(
            "this needs the cloud model itself; a vLLM server only decodes and verifies",
            "add --set cloud.backend=transformers --set cloud.placement=in_process",
        )

    @property
    def engine_kind(self) -> str:
        """What really runs the passes."""
        return "vllm"

    @property
    def measures_memory(self) -> bool:
        """As of every model."""
        return False

    def ceiling(self) -> None:
        """Unknown: no vLLM server says how fast it reads its weights."""
        return

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was made for and the server has room for."""
        known = [super().context_length, self.facts.max_model_len]
        return min((length for length in known if length is not None), default=None)

    @property
    def elsewhere(self) -> dict:
        """What two comparable runs have alike of the server."""
        return self.facts.identity

    def server(self) -> VllmServer:
        """The server, over a connection of its own."""
        found = self._connected()
        found.model = self.facts.name
        return found

    def target(self, options: Options) -> VllmTarget:
        """The server as one that decodes alone, streaming."""
        return self._target(verifies=False)

    def verifier(self, options: Options, needs: Needs | None = None) -> VllmTarget:
        """The server as one that verifies drafts, each time by reading the whole text.

        Raises:
            SpecbenchError: it sends no prompt log-probabilities, or the method needs more than chains.
        """
        if needs and (needs.trees or needs.top_k or needs.features):
            what = "reads no trees" if needs.trees else "does not send the target's likeliest ids"
            if needs.features:
                what = "does not send the target's hidden states"
            raise SpecbenchError(
                f"cloud.backend: vllm {what}, which the method needs",
                "add --set cloud.backend=transformers --set cloud.placement=process, or run speculative",
            )
        return self._target(verifies=True)

    def colocated(self, edge: EdgeModel, options: Options) -> NoReturn:
        """Refuse: vLLM loads no draft of ours."""
        self.demand_here()

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> NoReturn:
        """Refuse: assisted generation needs both models in one loop."""
        self.demand_here()

    def generator(self, decoding: Decoding) -> Callable[[Request], Iterator[Round]]:
        """A streamed completion: what `model.generate` is to transformers."""
        target = self._target(verifies=False)

        def generate(request: Request) -> Iterator[Round]:
            commit = target.begin(request)
            yield commit
            if commit.finish_reason is None:
                yield from target.decode()

        return generate

    def evidence(
        self,
        options: Options,
        request: Request,
        text: Sequence[int],
        passes: Sequence[Pass],
        pair: tuple[int, int],
    ) -> Evidence:
        """How far apart the server finds two tokens behind `text`. Neither a tie nor a bug is proven by it.

        A proof repeats both computations, and what a server computes depends on its batches and its cache: the
        step by which it streamed a token is not to be had again.
        """
        from specbench.speculation.ties import Evidence

        self.load()
        prompt = [*request.prompt_ids, *text]
        scores = [
            self._aside_server.complete([*prompt, token], "proof", (), verifies=True).log_probabilities[-1]
            for token in pair
        ]
        return Evidence(len(prompt) + 1, None, margin=abs(scores[0] - scores[1]))

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> NoReturn:
        """Refuse: the server's passes cannot be repeated, with its cache or without.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError("a vLLM server repeats none of its passes without a cache")

    def audit(self) -> Audit:
        """What little is known of the precision: what was declared, and that no tensor was seen."""
        from specbench.models import vocabulary
        from specbench.results.records import Audit

        version = self.facts.version or "of unknown version"
        return Audit(
            role=self.role,
            model=self.spec.model,
            device=f"vLLM {version} at {self.spec.placement}",
            declared=self.dtype,
            vocabulary_size=vocabulary.size(self.tokenizer),
            parameters=(),
            buffers=(),
            logits="unknown",
            cache=(),
            stored=(),
            attention="unknown",
        )

    @property
    def answers(self) -> int:
        """How many answers the server has sent so far."""
        return sum(server.answers for server in self._servers)

    def close(self) -> None:
        """Hang up."""
        for server in self._servers:
            server.close()

    @cached_property
    def _servers(self) -> list[VllmServer]:
        return []

    @cached_property
    def _aside_server(self) -> VllmServer:
        """What is asked for things that are no text of a method's."""
        return self._connected()

    def _connected(self) -> VllmServer:
        from specbench.cloud.transport.token import read_token

        token = read_token(Path(self.spec.token_file)) if self.spec.token_file else None
        self._servers.append(VllmServer(self.spec.placement, token))
        return self._servers[-1]

    def _target(self, verifies: bool) -> VllmTarget:
        from specbench.cloud.vllm.target import VllmTarget

        return VllmTarget(self.server(), self.facts.rtt_ms, verifies, self._probe)

    @property
    def _probe(self) -> list[int]:
        return self.tokenizer.encode(PROBE, add_special_tokens=False)

    def _other(self, what: str, ours: object, theirs: object) -> SpecbenchError:
        return SpecbenchError(
            f"the vLLM server does not match the profile: {what} is {ours} here and {theirs} there",
            "cloud.model and cloud.dtype say what the server was started with",
            ExitCode.MODEL,
        )
