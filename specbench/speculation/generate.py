"""`model.generate` as a user runs it, streamed: context for the control, not the control."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from specbench.clock import now_ms
from specbench.engine.finite import demanding_finite
from specbench.engine.threads import release_compute_threads
from specbench.models.media import inputs_of
from specbench.profile import Decoding
from specbench.results.records import Round
from specbench.speculation.request import Request
from specbench.speculation.sampling import Scorer, probabilities

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel


_drawing = threading.Lock()
"""Held by whoever draws: torch's generator is the process's, and another text's draws would shift these."""

NATIVE = ("temperature", "top_p", "top_k", "repetition_penalty", "ignore_eos", "stop")
"""Settings of `Decoding` that `generate` applies by itself in the same order, or knows nothing of."""

PROMPTLY_S = 0.001
"""A reader that waits for nothing else asks for the next token sooner."""


class QueueStreamer(BaseStreamer):
    """Hands what `generate` commits to the reading thread; the prompt comes first and is dropped.

    `generate` goes on when more is asked for: other texts' passes, on the same model, may come between.
    """

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.asked = threading.Semaphore(0)
        self.draws = self.is_abandoned = False
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate`, in its thread."""
        if self._prompt_seen:
            item = self.item(value.flatten().tolist())
            with _others_draw() if self.draws else nullcontext():
                self.items.put(item)
                if not self.asked.acquire(timeout=PROMPTLY_S):
                    release_compute_threads()
                    self.asked.acquire()
            if self.is_abandoned:
                raise _AbandonedError
        self._prompt_seen = True

    def item(self, tokens: list[int]) -> object:
        """What is handed over for tokens that were committed together."""
        return tokens

    def end(self) -> None:
        """Nothing: the thread says when it is done, error or not."""


@contextmanager
def _others_draw() -> Iterator[None]:
    """Lend torch's generator to others, and have it as it was."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        _drawing.release()
        try:
            yield
        finally:
            _drawing.acquire()


class _Scored(LogitsProcessor):
    """Our own way from logits to what is chosen from, where transformers has another or none."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        penalized = self._scorer.penalized(scores, input_ids[0].tolist())
        decoding = self._scorer.decoding
        chosen = probabilities(penalized, decoding).log() if decoding.temperature else penalized
        return cast(torch.FloatTensor, chosen.to(scores.dtype))


class _AbandonedError(Exception):
    """Nobody reads on."""


def generate_commits(loaded: LoadedModel, request: Request, decoding: Decoding) -> Iterator[Round]:
    """`model.generate`, one commit a token, each as soon as it exists.

    Raises:
        Whatever `generate` raises.
    """
    text = list(request.prompt_ids)
    started = now_ms()
    with closing(stream(loaded, request, decoding, QueueStreamer())) as commits:
        for tokens in commits:
            kept, finish_reason = request.cut(text, tokens)
            text += kept
            yield Round(kept, finish_reason, verify_ms=now_ms() - started)
            if finish_reason:
                return  # a stop string is nothing that `generate` knows
            started = now_ms()


def stream(
    loaded: LoadedModel, request: Request, decoding: Decoding, streamer: QueueStreamer, **arguments: object
) -> Generator[Any, None, None]:
    """The streamer's items, as `model.generate` commits them.

    `generate` runs in a thread of its own, as with transformers' own text streamers, and only while its next
    item is waited for.

    Args:
        arguments: of `generate`, besides the usual ones.

    Raises:
        Whatever `generate` raises.
    """
    if decoding.beyond(*NATIVE) or request.grammar or request.media:
        ours = _Scored(Scorer(decoding, request, coupled=False))
        arguments = {**arguments, "logits_processor": LogitsProcessorList([ours])}
        decoding = Decoding(temperature=1.0 if decoding.temperature else 0.0)
    config = GenerationConfig(
        max_new_tokens=request.max_new_tokens,
        eos_token_id=sorted(request.stop_ids) or None,
        # An id that may stand in a text is no padding: an assistant would not see it there.
        pad_token_id=min(request.stop_ids, default=None),
        repetition_penalty=decoding.repetition_penalty,
        **_sampling_arguments(decoding),
    )
    streamer.draws = decoding.temperature > 0
    threads = torch.get_num_threads()
    done = object()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            torch.set_num_threads(threads)  # new threads start from the machine's default
            prompt = torch.tensor([request.prompt_ids], device=loaded.device)
            shown = inputs_of(loaded, request.media, request.prompt_ids) if request.media else {}
            drawing = _drawing if streamer.draws else nullcontext()
            with drawing, demanding_finite(loaded.model, "cloud"):
                torch.manual_seed(request.seed)
                cast(Any, loaded.model).generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    generation_config=config,
                    streamer=streamer,
                    **shown,
                    **arguments,
                )
        except BaseException as error:
            failures.append(error)
        streamer.items.put(done)

    worker = threading.Thread(target=work, name="model.generate", daemon=True)
    release_compute_threads()
    try:
        worker.start()
        while (item := streamer.items.get()) is not done:
            yield item
            release_compute_threads()
            streamer.asked.release()
        if failures:
            raise failures[0]
    finally:
        streamer.is_abandoned = True
        streamer.asked.release()
        if worker.ident is not None:  # else Ctrl-C came before it began
            worker.join()


def _sampling_arguments(decoding: Decoding) -> dict:
    if decoding.temperature == 0:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
    }
