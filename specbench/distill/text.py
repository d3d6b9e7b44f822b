"""Conversations, played with the target in both roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specbench.benchmark import conversation
from specbench.distill.text_jobs import Job, Turn
from specbench.distill.writing import Request, Text, Writer, Written
from specbench.errors import SpecbenchError
from specbench.speculation.stop_strings import text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT, GREEDY, SAMPLED, USER = 0, 1, 2, 3  # what a token is; all but PROMPT were written by the target
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


class TextMaker:
    """Turns jobs into stored sequences.

    Args:
        context_tokens: a conversation that would grow beyond it ends before.
    """

    def __init__(self, writer: Writer, tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> None:
        self.writer, self.tokenizer, self.context_tokens = writer, tokenizer, context_tokens

    def converse(self, jobs: Sequence[Job], seeds: Sequence[tuple[int, ...]]) -> list[Dialogue]:
        """Play all jobs side by side, each turn as soon as the one before it is finished."""
        dialogues = [Dialogue(job, seed) for job, seed in zip(jobs, seeds, strict=True)]
        # Those that may take longest come first, so that all end at about the same time.
        ordered = sorted(dialogues, key=lambda each: -each.job.budget)
        self.writer.play([self._talk(each) for each in ordered], self.context_tokens)
        return dialogues

    def _talk(self, said: Dialogue) -> Text:
        """Turn by turn: the target may go on with the user's words, and answers."""
        for turn in said.job.turns:
            text = turn.text
            if turn.invent_tokens:
                request = self._fitting(said, self._opening_ids(said, turn), turn.invent_tokens, 1.0)
                if request is None:
                    return
                written = yield request
                invented = text_of(self.tokenizer, written.tokens)
                if len(written.tokens) < LEAST_INVENTED_TOKENS or not invented.strip():
                    return
                said.sequences.append((request, written, USER))
                if not written.stopped:
                    return
                text += invented
            said.turns.append(text)
            request = self._fitting(said, self._prompt_ids(said), turn.answer_tokens, turn.temperature)
            if request is None:
                return
            written = yield request
            said.sequences.append((request, written, SAMPLED if request.temperature else GREEDY))
            said.replies.append(text_of(self.tokenizer, written.tokens))
            if written.looping:
                return

    def _fitting(
        self, said: Dialogue, prompt: Sequence[int], budget: int, temperature: float
    ) -> Request | None:
        """What shall be written next, with random numbers of its own, where it fits the context."""
        if not prompt or len(prompt) + budget > self.context_tokens:
            return None
        return Request(tuple(prompt), budget, temperature, (*said.seed, len(said.sequences)))

    def _prompt_ids(self, said: Dialogue) -> list[int]:
        try:
            return conversation.prompt_ids(self.tokenizer, said.turns, said.replies)
        except SpecbenchError:  # of a chat template that refuses what the target said
            if not said.replies:
                raise
            return []

    def _opening_ids(self, said: Dialogue, turn: Turn) -> list[int]:
        """Token ids up to the opening of the user's turn, which is left open."""
        if self.tokenizer.chat_template is None:
            return conversation.prompt_ids(self.tokenizer, [*said.turns, turn.text], said.replies)
        messages: list[dict[str, str]] = []
        for asked, replied in zip(said.turns, said.replies, strict=True):
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": replied}]
        messages.append({"role": "user", "content": turn.text + MARKER})
        text = conversation.templated(self.tokenizer, messages, tokenize=False)
        return self.tokenizer(text.partition(MARKER)[0], add_special_tokens=False)["input_ids"]
