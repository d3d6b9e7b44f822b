"""`model.generate` as a user runs it, streamed: context for the control, not the control."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from specbench.config import Decoding
from specbench.decoding.request import Request

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel


class _QueueStreamer(BaseStreamer):
    """Hands token ids to the reading thread as `generate` makes them; the prompt comes first and is dropped."""

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            for token in value.flatten().tolist():
                self.items.put(token)
        self._prompt_seen = True

    def end(self) -> None:
        pass  # the thread says when it is done, error or not


class _Abandoned(StoppingCriteria):
    """Stops `generate` when nobody reads on."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device)


def stream_generate(loaded: LoadedModel, request: Request, decoding: Decoding) -> Iterator[int]:
    """Token ids of `model.generate`, each as soon as it exists, the stop token included.

    `generate` runs in a thread of its own, as with transformers' own text streamers.

    Raises:
        Whatever `generate` raises.
    """
    config = GenerationConfig(
        max_new_tokens=request.max_new_tokens,
        eos_token_id=sorted(request.stop_ids) or None,
        pad_token_id=min(request.stop_ids, default=0),
        repetition_penalty=decoding.repetition_penalty,
        **_sampling_arguments(decoding),
    )
    streamer, abandoned = _QueueStreamer(), _Abandoned()
    threads = torch.get_num_threads()

    def work() -> None:
        outcome: BaseException | None = None
        try:
            torch.set_num_threads(threads)  # new threads start from the machine's default
            torch.manual_seed(request.seed)
            prompt = torch.tensor([request.prompt_ids], device=loaded.device)
            loaded.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([abandoned]),
            )
        except BaseException as error:
            outcome = error
        streamer.items.put(outcome)

    worker = threading.Thread(target=work, name="model.generate", daemon=True)
    worker.start()
    try:
        while isinstance(item := streamer.items.get(), int):
            yield item
        if item is not None:
            raise item
    finally:
        abandoned.event.set()
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
