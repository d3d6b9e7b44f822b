"""A cloud that a server of another engine runs: its tokenizer is read here, its weights are not."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from specbench.clock import now_ms
from specbench.cloud.handle import CloudModel
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Decoding, Options
from specbench.servers.answers import Question
from specbench.servers.client import Client
from specbench.servers.http import Hints
from specbench.servers.openai import MODELS, OpenAiChat, listed
from specbench.servers.probing import opened

if TYPE_CHECKING:
    from specbench.cloud.openai_target import OpenAiTarget
    from specbench.results.records import Audit, Round
    from specbench.roles.edge import EdgeModel
    from specbench.servers.base import HttpServer
    from specbench.speculation.request import Needs, Request
    from specbench.speculation.ties import Evidence, Pass

logger = logging.getLogger(__name__)

PROBE = "The edge drafts, the cloud verifies: 12 + 30 = 42; naïve 東京.\n"
PINGS = 7
HINTS = Hints(
    absent="start one there, such as: vllm serve MODEL --port N (docs/how-to/a-server.md)",
    lost="finished prompts are kept; resume with 'specbench run --resume RUN' once it is back",
    login="set cloud.token_file to a file with the server's API key",
    certificate="renew it, or let SSL_CERT_FILE name the authority that signed it",
)


class OpenAiCloud(CloudModel):
    """The target model on a server of another engine: decodes alone, or verifies drafts where it can.

    Which interface the server has is asked. What it refuses is not sent again: a pause would be timed.
    """

    @cached_property
    def _aside(self) -> HttpServer:
        """The server as it is asked for what is no text of a method's; reached when first asked for.

        Raises:
            SpecbenchError: it is not there, or has another model than the profile's.
        """
        from specbench.cloud.transport.token import read_token

        logger.info("connecting to the server at %s", self.spec.placement)
        key = read_token(Path(self.spec.token_file)) if self.spec.token_file else None
        client = Client(self.spec.placement, key, times=1, hints=HINTS)
        self._clients.append(client)
        found = opened(client, model=self.spec.model if self._is_listed(client) else None)
        if isinstance(found, OpenAiChat):
            raise client.error("only chats, and takes no prompt as it is", "a run needs its /v1/completions")
        if found.dtype is not None and found.dtype.removeprefix("torch.") != self.dtype:
            raise self._other("cloud.dtype", self.dtype, found.dtype.removeprefix("torch."))
        ours, theirs = self._probe, found.tokenized(PROBE)
        if theirs is None:
            logger.warning("%s does not tell token ids of texts, so its tokenizer cannot be checked", found.url)
        elif list(theirs) != ours:
            raise self._other("the tokenizer's reading of a sentence", ours, list(theirs))
        return found

    @cached_property
    def _rtt_ms(self) -> float:
        """Median round trip of a question that computes nothing."""
        times = []
        for _ in range(PINGS):
            started = now_ms()
            self._aside.client.tried(MODELS)
            times.append(now_ms() - started)
        return statistics.median(times)

    @property
    def is_loaded(self) -> bool:
        """Whether the server was reached."""
        return "_aside" in vars(self)

    def load(self) -> None:
        """Reach the server."""
        _ = self._aside

    def demand_here(self) -> NoReturn:
        """Refuse: the weights are not here.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError(
            "this needs the cloud model itself; cloud.backend: openai only decodes and verifies",
            "add --set cloud.backend=transformers --set cloud.placement=in_process",
        )

    @property
    def engine_kind(self) -> str:
        """What really runs the passes."""
        return self._aside.kind if self.is_loaded else "openai"

    @property
    def measures_memory(self) -> bool:
        """As of every model."""
        return False

    def ceiling(self) -> None:
        """Unknown: no server says how fast it reads its weights."""
        return

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was made for and the server has room for."""
        known = [super().context_length, self._aside.context_length]
        return min((length for length in known if length is not None), default=None)

    @property
    def elsewhere(self) -> dict:
        """What two comparable runs have alike of the server."""
        server = self._aside
        return {
            "kind": server.kind,
            "name": server.model,
            "root": server.root,
            "max_model_len": server.context_length,
            "version": server.version,
            "dtype": server.dtype,
        }

    def target(self, options: Options) -> OpenAiTarget:
        """The server as one that decodes alone, streaming."""
        return self._target(options.decoding, verifies=False)

    def verifier(self, options: Options, needs: Needs | None = None) -> OpenAiTarget:
        """The server as one that verifies drafts.

        Raises:
            SpecbenchError: it cannot, or the method needs more than chains.
        """
        if needs and (needs.trees or needs.top_k or needs.features):
            what = "reads no trees" if needs.trees else "does not send the target's likeliest ids"
            if needs.features:
                what = "does not send the target's hidden states"
            raise SpecbenchError(
                f"cloud.backend: openai {what}, which the method needs",
                "add --set cloud.backend=transformers --set cloud.placement=process, or run speculative",
            )
        return self._target(options.decoding, verifies=True)

    def colocated(self, edge: EdgeModel, options: Options) -> NoReturn:
        """Refuse: the server loads no draft of ours."""
        self.demand_here()

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> NoReturn:
        """Refuse: assisted generation needs both models in one loop."""
        self.demand_here()

    def generator(self, decoding: Decoding) -> Callable[[Request], Iterator[Round]]:
        """A streamed completion: what `model.generate` is to transformers."""
        target = self._target(decoding, verifies=False)

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

        prompt = (*request.prompt_ids, *text)
        question = Question(prompt, 1, salt="proof", stop_ids=frozenset())
        speaks = self._aside.speaks_ids
        scores = self._aside.log_probabilities(question, pair) if speaks else None
        return Evidence(len(prompt) + 1, None, margin=abs(scores[0] - scores[1]) if scores else None)

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> NoReturn:
        """Refuse: the server's passes cannot be repeated, with its cache or without.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError("a server of another engine repeats none of its passes without a cache")

    def audit(self) -> Audit:
        """What little is known of the precision: what was declared, and that no tensor was seen."""
        from specbench.models import vocabulary
        from specbench.results.records import Audit

        version = self._aside.version or "of unknown version"
        return Audit(
            role=self.role,
            model=self.spec.model,
            device=f"{self._aside.kind} {version} at {self.spec.placement}",
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
        return sum(client.answers for client in self._clients)

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client.close()

    @cached_property
    def _clients(self) -> list[Client]:
        return []

    def _is_listed(self, client: Client) -> bool:
        """Whether the server has a model by the profile's name, which is then the one that is asked."""
        return self.spec.model in [each["id"] for each in listed(client)]

    def _target(self, decoding: Decoding, verifies: bool) -> OpenAiTarget:
        from specbench.cloud.openai_target import OpenAiTarget

        server = self._aside.another()
        if decoding.ignore_eos and not server.obeys_stops:
            raise SpecbenchError(
                f"the {server.kind} server at {server.url} ends a text at its own stop tokens, which "
                "decoding.ignore_eos would have it pass",
                "add --set decoding.ignore_eos=false",
            )
        self._clients.append(server.client)
        return OpenAiTarget(server, self.tokenizer, self._rtt_ms, verifies, self._probe)

    @property
    def _probe(self) -> list[int]:
        return self.tokenizer.encode(PROBE, add_special_tokens=False)

    def _other(self, what: str, ours: object, theirs: object) -> SpecbenchError:
        return SpecbenchError(
            f"the server does not match the profile: {what} is {ours} here and {theirs} there",
            "cloud.model and cloud.dtype say what the server was started with",
            ExitCode.MODEL,
        )
