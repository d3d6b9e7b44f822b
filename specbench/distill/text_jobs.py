"""What the target is asked to write: conversations whose turns are given, or begun and left to it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbench.results.records import Prompt

TEMPERATURES = (0.7, 0.85, 1.0)


@dataclass(frozen=True)
class Turn:
    """What the user says, and how it is answered.

    Args:
        text: the user's words; only their beginning where `invent_tokens` is not zero.
        answer_tokens: the answer's budget.
        temperature: of the answer; 0 is greedy.
        invent_tokens: up to so many tokens are added to `text` by the target, in the user's role.
    """

    text: str
    answer_tokens: int
    temperature: float = 0.0
    invent_tokens: int = 0


@dataclass(frozen=True)
class Job:
    """One conversation to be made; `task` is the kind of its questions."""

    task: str
    turns: tuple[Turn, ...]

    @property
    def budget(self) -> int:
        """Tokens to be written at most."""
        return sum(turn.invent_tokens + turn.answer_tokens for turn in self.turns)


def from_prompts(prompts: Sequence[Prompt], answer_tokens: int, seed: int) -> Iterator[Job]:
    """A file's prompts again and again: answered greedily the first time, sampled afterwards."""
    index = 0
    while True:
        prompt = prompts[index % len(prompts)]
        rng = random.Random(f"{seed}/{index}")
        temperature = 0.0 if index < len(prompts) else rng.choice(TEMPERATURES)
        turns = tuple(Turn(text, answer_tokens, temperature) for text in prompt.turns)
        yield Job(prompt.category, turns)
        index += 1
