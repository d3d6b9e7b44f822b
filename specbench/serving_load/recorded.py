"""Drafts for many edges: real ones, or those of an acceptance trace with the draft's time slept.

So many edges can be driven from a machine that could not draft for all of them: the server's processors stay
its own. What was measured is the draft's time on this machine while nothing else ran, as on an edge of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn, cast

from specbench.api import (
    AheadDrafter,
    Drafter,
    DraftModel,
    EdgeModel,
    Options,
    Proposal,
    Request,
    SpecbenchError,
)
from specbench.benchmark import conversation
from specbench.benchmark.preparation import Prepared, model_files
from specbench.clock import now_ms
from specbench.engine.threads import model_thread, release_compute_threads
from specbench.forecast.acceptance_trace import Trace, TracedText, read_trace
from specbench.forecast.traced_drafter import WRONG, Text, TracedDrafter, text_of
from specbench.models import vocabulary
from specbench.results.records import Prompt
from specbench.serving_load.edges import EdgeModels

if TYPE_CHECKING:
    from specbench.speculation.lookup_drafter import TreeDraftModel

ROUNDS = 12
HINT = "make another with 'specbench trace', by the same profile"


@dataclass(frozen=True)
class Pace:
    """What drafting takes on an edge that does nothing else.

    Args:
        step_ms: a drafted token, in a draft of the profile's length.
        prefill_ms: a token of the prompt.
    """

    step_ms: float
    prefill_ms: float


def measured_pace(edge: EdgeModel, options: Options, request: Request) -> Pace:
    """Time the real draft on one prompt; medians over a few rounds, of which all is refused."""
    drafter = edge.drafter(options)
    length = options.speculative.draft_length
    length = length if isinstance(length, int) else 4
    steps, prefills = [], []
    for _ in range(ROUNDS):
        started = now_ms()
        drafter.begin(request)
        prefills.append((now_ms() - started) / len(request.prompt_ids))
        for _ in range(2):  # the first one reads what the prefill left
            drafter.commit([request.prompt_ids[0]], 0)
            started = now_ms()
            drafted = len(drafter.propose(length))
            steps.append((now_ms() - started) / drafted)
    return Pace(median(steps), median(prefills))


class RecordedDrafts(TracedDrafter):
    """A drafter that proposes the trace's drafts and sleeps for the draft's time."""

    def __init__(self, texts: Mapping[str, Text], pace: Pace, vocabulary_size: int) -> None:
        self._texts, self._pace, self._vocabulary_size = texts, pace, vocabulary_size

    def begin(self, request: Request) -> None:
        """Find the text of this prompt, and take the time of its prefill."""
        self._text = self._texts[conversation.request_sha256(request)]
        super().begin(request)

    def _prefill(self, prompt_tokens: int) -> None:
        time.sleep(self._pace.prefill_ms * prompt_tokens / 1000)

    def _compute(self, drafted: int, unread: int) -> None:
        time.sleep(self._pace.step_ms * drafted / 1000)

    def _tokens(self, count: int) -> tuple[int, ...]:
        """What is not the target's token is another one of the vocabulary."""
        known = super()._tokens(count)
        right = self._text.ids[self._committed : self._committed + count]
        others = tuple((token + 1) % self._vocabulary_size for token in right) + (0,) * (count - len(right))
        return tuple(other if token == WRONG else token for token, other in zip(known, others, strict=True))


class InTurn(AheadDrafter):
    """Real drafts of many edges on one model in one process: one edge drafts at a time, the others wait for it.

    Args:
        thread: runs all of them.
    """

    def __init__(self, drafts: DraftModel, thread: ThreadPoolExecutor) -> None:
        self._drafts, self._thread = drafts, thread

    def begin(self, request: Request) -> None:
        """As the wrapped drafter."""
        self._thread.submit(self._drafts.begin, request).result()

    def propose(self, draft_length: int) -> Proposal:
        """As the wrapped drafter."""
        return self._thread.submit(self._drafts.propose, draft_length).result()

    def propose_tree(self, draft_length: int, nodes: int) -> Proposal:
        """As the wrapped drafter, where it drafts trees."""
        drafts = cast("TreeDraftModel", self._drafts)
        return self._thread.submit(drafts.propose_tree, draft_length, nodes).result()

    def overtake(self, token: int) -> bool:
        """As the wrapped drafter."""
        return self._thread.submit(self._drafts.overtake, token).result()

    def append(self, tokens: Sequence[int]) -> None:
        """As the wrapped drafter."""
        self._thread.submit(self._drafts.append, tokens).result()

    def draft_ahead(self) -> int | None:
        """As the wrapped drafter."""
        return self._thread.submit(self._drafts.draft_ahead).result()

    @property
    def uncommitted(self) -> int:
        """As the wrapped drafter."""
        return self._drafts.uncommitted

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """As the wrapped drafter."""
        return self._thread.submit(self._drafts.commit, tokens, accepted).result()

    def check(self) -> None:
        """As the wrapped drafter."""
        self._thread.submit(self._drafts.check).result()


class SharedEdge:
    """The edge model of one of many edges: its drafter is its own, everything else is shared.

    Args:
        trees: drafts may be trees.
    """

    def __init__(
        self,
        model: EdgeModel,
        drafter: Callable[..., AheadDrafter],
        tree_drafter: Callable[..., Drafter],
        trees: bool,
    ) -> None:
        self._model, self._trees = model, trees
        self.drafter, self.tree_drafter = drafter, tree_drafter

    @property
    def reads_trees(self) -> bool:
        """Whether it can draft trees of tokens."""
        return self._trees and self._model.reads_trees

    def feature_drafter(self, *asked: object) -> NoReturn:
        """Refuse: drafts are made in one thread for all edges, which hands on no hidden states."""
        raise SpecbenchError(
            "load cannot drive a method that drafts from the target's hidden states",
            "measure it with specbench run",
        )

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


def edges_of(prepared: Prepared, trace: Path | None) -> tuple[Sequence[Prompt], EdgeModels, str]:
    """The prompts to ask, a factory of edge models, and a description of their drafts.

    Args:
        trace: has the drafts; without it the profile's edge model makes them, in one thread for all edges.

    Raises:
        SpecbenchError: the trace is of another pair, or of other prompts.
    """
    options = Options.of(prepared.profile)
    if trace is None:
        prepared.edge.load()
        release_compute_threads()  # drafts are made in another thread
        thread = model_thread()
        threads = prepared.profile.edge.threads
        label = f"real drafts, made in turn by one process (edge.threads: {threads}) beside the server"
        model = prepared.edge
        models = _shared(
            model,
            lambda *asked: InTurn(model.drafter(*asked), thread),
            lambda *asked: InTurn(model.tree_drafter(*asked), thread),
            True,
        )
        return prepared.prompts, models, label
    tokenizer = prepared.cloud.tokenizer
    recorded = read_trace(trace)
    demand_same_pair(recorded, prepared)
    texts = recorded_texts(
        recorded,
        vocabulary.fingerprint(tokenizer),
        options.speculative.rule,
        prepared.profile.workload.max_new_tokens,
    )
    asked = [(prompt, prepared.request(prompt, 0, 0, [])) for prompt in prepared.prompts]
    known = [(prompt, one) for prompt, one in asked if conversation.request_sha256(one) in texts]
    if not known:
        raise SpecbenchError(f"{trace} has none of the workload's prompts", "trace the same workload")
    pace = measured_pace(prepared.edge, options, known[0][1])
    size = vocabulary.size(tokenizer)
    label = f"drafts replayed from {trace.name}, {pace.step_ms:.2f} ms per token"
    stop = options.speculative.confidence_stop
    sequences = {sha256: text_of(text, stop) for sha256, text in texts.items()}
    models = _shared(prepared.edge, lambda *_: RecordedDrafts(sequences, pace, size), _no_tree, False)
    return [prompt for prompt, _ in known], models, label


def _no_tree(*asked: object) -> NoReturn:
    raise SpecbenchError("the method drafts trees, and a trace holds chains", "leave out --trace")


def _shared(
    model: EdgeModel,
    drafter: Callable[..., AheadDrafter],
    tree_drafter: Callable[..., Drafter],
    trees: bool,
) -> EdgeModels:
    return lambda: cast("EdgeModel", SharedEdge(model, drafter, tree_drafter, trees))


def demand_same_pair(trace: Trace, prepared: Prepared) -> None:
    """Refuse a trace whose draft or texts are not the profile's.

    Raises:
        SpecbenchError: naming what differs.
    """
    profile, traced = prepared.profile.model_dump(mode="json"), trace.profile
    differing = [
        f"another {role} model"
        for role, known in model_files(prepared).items()
        if _differ(trace.models.get(role, {}).get("files"), known.get("files"))
        or traced.get(role, {}).get("layers") != profile[role]["layers"]
    ]
    if traced.get("decoding") != profile["decoding"]:
        differing.append("other settings of decoding")
    seed = profile["workload"]["seed"]
    if profile["decoding"]["temperature"] and traced.get("workload", {}).get("seed") != seed:
        differing.append("another workload.seed")
    if differing:
        raise SpecbenchError(f"the trace was made with {differing[0]}", HINT)


def _differ(there: dict | None, here: dict | None) -> bool:
    """Whether files are known on both sides and are not the same."""
    return bool(there and here and there != here)


def recorded_texts(
    trace: Trace, tokenizer_sha256: str, verification: str, budget: int
) -> dict[str, TracedText]:
    """The trace's first turns, of the first repeat, by the hash of their prompts.

    Raises:
        SpecbenchError: the trace was made for other tokens or another rule, is not exact, or its texts are
            shorter than the budget.
    """
    if trace.tokenizer_sha256 != tokenizer_sha256:
        raise SpecbenchError("the trace was made with another tokenizer", HINT)
    if not trace.exact or trace.verification != verification:
        raise SpecbenchError(
            f"a trace can be replayed only with its own lossless rule: that is {trace.verification}, and the "
            f"profile's rule is {verification}",
            HINT,
        )
    first = [text for text in trace.texts if text.turn == text.repeat == 0]
    if short := next((text for text in first if text.max_new_tokens < budget), None):
        raise SpecbenchError(
            f"the trace's texts have up to {short.max_new_tokens} tokens, but {budget} are needed",
            f"--set workload.max_new_tokens={short.max_new_tokens}",
        )
    return {text.prompt_sha256: text for text in first}
