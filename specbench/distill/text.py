"""Training text, made by the target: shards of finished conversations, each written whole or not at all."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from specbench.atomic import replacing
from specbench.benchmark import conversation
from specbench.distill.settings import Settings
from specbench.distill.text_jobs import Job, Turn
from specbench.distill.writing import Request, Writer, Written
from specbench.errors import SpecbenchError
from specbench.speculation.stop_strings import text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT, GREEDY, SAMPLED, USER = 0, 1, 2, 3  # what a token is; all but PROMPT were written by the target
logger = logging.getLogger(__name__)

LEAST_INVENTED_TOKENS = 5
MARKER = "\ue000"  # a private-use character, to find where the user's words end in the chat template


@dataclass
class Dialogue:
    """A job in progress: what was said so far, and the sequences that came of it."""

    job: Job
    seed: tuple[int, ...]
    turns: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    sequences: list[tuple[Request, Written, int]] = field(default_factory=list)
    is_over: bool = False

    @property
    def turn(self) -> Turn:
        """The turn that waits for its answer."""
        return self.job.turns[len(self.replies)]

    def request(self, prompt: Sequence[int], budget: int, temperature: float) -> Request:
        """The next text to be written, with random numbers of its own."""
        return Request(tuple(prompt), budget, temperature, (*self.seed, len(self.sequences)))


class TextMaker:
    """Turns jobs into stored sequences.

    Args:
        context_tokens: a conversation that would grow beyond it ends before.
    """

    def __init__(self, writer: Writer, tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> None:
        self.writer, self.tokenizer, self.context_tokens = writer, tokenizer, context_tokens

    def converse(self, jobs: Sequence[Job], seeds: Sequence[tuple[int, ...]]) -> list[Dialogue]:
        """Play all jobs side by side, turn by turn."""
        dialogues = [Dialogue(job, seed) for job, seed in zip(jobs, seeds, strict=True)]
        while waiting := [each for each in dialogues if not each.is_over]:
            self._invent([each for each in waiting if each.turn.invent_tokens])
            for each in waiting:
                if not each.is_over and not each.turn.invent_tokens:
                    each.turns.append(each.turn.text)
            self._answer([each for each in waiting if not each.is_over])
        return dialogues

    def _invent(self, dialogues: list[Dialogue]) -> None:
        """Let the target go on with the user's turn; unless it comes to an end, the conversation is over."""
        requests = self._fitting(dialogues, self._opening_ids, lambda turn: (turn.invent_tokens, 1.0))
        for (each, request), written in zip(requests, self._write(requests), strict=True):
            text = text_of(self.tokenizer, written.tokens)
            is_text = len(written.tokens) >= LEAST_INVENTED_TOKENS and bool(text.strip())
            if is_text:
                each.sequences.append((request, written, USER))
                each.turns.append(each.turn.text + text)
            each.is_over = not (is_text and written.stopped)

    def _answer(self, dialogues: list[Dialogue]) -> None:
        def prompt_ids(each: Dialogue) -> list[int]:
            return conversation.prompt_ids(self.tokenizer, each.turns, each.replies)

        requests = self._fitting(dialogues, prompt_ids, lambda turn: (turn.answer_tokens, turn.temperature))
        for (each, request), written in zip(requests, self._write(requests), strict=True):
            each.sequences.append((request, written, SAMPLED if request.temperature else GREEDY))
            each.replies.append(text_of(self.tokenizer, written.tokens))
            each.is_over = written.looping or len(each.replies) == len(each.job.turns)

    def _fitting(
        self,
        dialogues: list[Dialogue],
        prompt_ids: Callable[[Dialogue], list[int]],
        wanted: Callable[[Turn], tuple[int, float]],
    ) -> list[tuple[Dialogue, Request]]:
        """Requests for the dialogues that still fit the context; the others are over."""
        requests = []
        for each in dialogues:
            try:
                prompt = prompt_ids(each)
            except SpecbenchError:  # of a chat template that refuses what the target said
                if not each.replies:
                    raise
                prompt = []
            budget, temperature = wanted(each.turn)
            if not prompt or len(prompt) + budget > self.context_tokens:
                each.is_over = True
            else:
                requests.append((each, each.request(prompt, budget, temperature)))
        return requests

    def _write(self, requests: list[tuple[Dialogue, Request]]) -> list[Written]:
        return self.writer.write([request for _, request in requests])

    def _opening_ids(self, each: Dialogue) -> list[int]:
        """Token ids up to the opening of the user's turn, which is left open."""
        if self.tokenizer.chat_template is None:
            return conversation.prompt_ids(self.tokenizer, [*each.turns, each.turn.text], each.replies)
        messages: list[dict[str, str]] = []
        for said, replied in zip(each.turns, each.replies, strict=True):
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": replied}]
        messages.append({"role": "user", "content": each.turn.text + MARKER})
        text = conversation.templated(self.tokenizer, messages, tokenize=False)
        return self.tokenizer(text.partition(MARKER)[0], add_special_tokens=False)["input_ids"]


def make_shards(maker: TextMaker, jobs: Iterator[Job], settings: Settings) -> None:
    """Write shards into `settings.work/text` until there are tokens enough, or the time for text is used up.

    Shards that are there already count, with the time that they took; shard `n` holds jobs `n * jobs_per_shard`
    onwards and depends on nothing else, so a killed run loses only the shard that it was making.

    Raises:
        SpecbenchError: no prompt fits the target's context.
    """
    folder = settings.work / "text"
    folder.mkdir(exist_ok=True)
    done = [read_summary(path) for path in shard_paths(folder)]
    tokens, seconds = sum(each["written"] for each in done), sum(each["seconds"] for each in done)
    if done:
        logger.info("text: resuming with %d shards, %d tokens", len(done), tokens)
    number, size = len(done), settings.jobs_per_shard
    jobs = islice(jobs, number * size, None)
    wanted = settings.tokens if settings.tokens is not None else float("inf")
    while number == 0 or (tokens < wanted and seconds < settings.text_seconds):
        begin = time.monotonic()
        seeds = [(settings.seed, number * size + offset) for offset in range(size)]
        dialogues = maker.converse(list(islice(jobs, size)), seeds)
        took = time.monotonic() - begin
        written = _write_shard(folder / f"{number:06d}.npz", dialogues, took)
        if written == 0:
            raise SpecbenchError(
                f"no prompt of {settings.prompts} fits a context of {maker.context_tokens} tokens",
                "shorten the prompts",
            )
        number, tokens, seconds = number + 1, tokens + written, seconds + took
        goal = f"{settings.tokens} tokens" if settings.tokens else f"{settings.text_seconds / 60:.1f} min"
        logger.info(
            "text: %d tokens in %d shards, %.0f tokens/s, %.1f min (goal: %s)",
            *(tokens, number, written / took, seconds / 60, goal),
        )


def shard_paths(folder: Path) -> list[Path]:
    """The finished shards, in order."""
    return sorted(folder.glob("*.npz"))


def read_summary(path: Path) -> dict:
    """What a shard says of itself: `written` tokens, `seconds` they took, tokens by `tasks`."""
    with np.load(path) as data:
        return json.loads(bytes(data["summary"]))


def _write_shard(path: Path, dialogues: list[Dialogue], seconds: float) -> int:
    """Store all sequences in one file; returns the tokens that the target wrote."""
    tokens: list[int] = []
    kinds: list[int] = []
    offsets = [0]
    top_ids: list[np.ndarray] = []
    top_log_probs: list[np.ndarray] = []
    tasks: dict[str, int] = {}
    for each in dialogues:
        for request, written, kind in each.sequences:
            tokens += [*request.prompt, *written.tokens]
            kinds += [PROMPT] * len(request.prompt) + [kind] * len(written.tokens)
            offsets.append(len(tokens))
            top_ids += written.top_ids
            top_log_probs += written.top_log_probs
            tasks[each.job.task] = tasks.get(each.job.task, 0) + len(written.tokens)
    if not top_ids:
        return 0
    summary = {"written": len(top_ids), "seconds": seconds, "tasks": tasks}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            tokens=np.array(tokens, np.int32),
            kinds=np.array(kinds, np.uint8),
            offsets=np.array(offsets, np.int64),
            top_ids=np.stack(top_ids).astype(np.int32),
            top_log_probs=np.maximum(np.stack(top_log_probs), -60).astype(np.float16),
            summary=np.frombuffer(json.dumps(summary).encode(), np.uint8),
        )
    return len(top_ids)
