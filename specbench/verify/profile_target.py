"""The target of a profile, run in this process: a reference where there is no second server."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from specbench.benchmark.conversation import prompt_ids
from specbench.clock import now_ms
from specbench.servers.answers import Completion, Part, Prompt, Question, Token
from specbench.servers.base import Server
from specbench.speculation.stop_strings import text_of

if TYPE_CHECKING:
    import torch

    from specbench.roles.role import ModelFactory


class ProfileTarget(Server):
    """A target model, decoded one token at a time by specbench's own engine.

    Args:
        target: the profile's cloud model, in this process.
        profile: its name.
    """

    kind = "profile"
    tops = 100
    speaks_ids = True
    is_timed = False

    def __init__(self, target: ModelFactory, profile: str) -> None:
        super().__init__(f"profile {profile}", target.spec.model)
        self._target = target

    def complete(self, question: Question) -> Completion:
        """As of `Server`."""
        return self.stream(question)

    def parts(self, question: Question, said: Completion) -> Generator[Part, None, None]:
        """As of `Server`; every prompt is read anew."""
        import torch

        started, random = now_ms(), torch.Generator().manual_seed(question.seed)
        ids = list(self._ids(question.prompt))
        session = self._target.engine.session(len(ids) + question.most)
        row = session.prefill(ids)[-1]
        tokens: list[int] = []
        tops: list[dict[Token, float]] = []
        while said.finish_reason is None:
            tokens.append(_drawn(row, question.temperature, random))
            if question.top:
                tops.append(_top(row, question.top))
            said.parts.append(Part(now_ms() - started, "", (tokens[-1],)))
            if tokens[-1] in self._target.stop_ids:
                said.finish_reason = "stop"
            elif len(tokens) == question.most:
                said.finish_reason = "length"
            else:
                row = session.extend(tokens[-1:])[-1]
        said.text, said.tokens = text_of(self._target.tokenizer, tokens), tuple(tokens)
        said.top = tuple(tops) or None
        said.prompt_tokens, said.completion_tokens = len(ids), len(tokens)
        said.total_ms = now_ms() - started
        yield from said.parts

    def tokenized(self, text: str) -> tuple[int, ...]:
        """As of `Server`."""
        return tuple(self._target.tokenizer(text, add_special_tokens=False)["input_ids"])

    def templated(self, question: str) -> tuple[int, ...]:
        """As of `Server`."""
        return tuple(prompt_ids(self._target.tokenizer, [question], []))

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(self._target.tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else prompt


def _drawn(row: torch.Tensor, temperature: float, random: torch.Generator) -> int:
    import torch

    if not temperature:
        return int(row.argmax())
    return int(torch.multinomial((row.float() / temperature).softmax(-1).cpu(), 1, generator=random))


def _top(row: torch.Tensor, count: int) -> dict[Token, float]:
    values, found = row.float().log_softmax(-1).topk(min(count, row.shape[-1]))
    return dict(zip(found.tolist(), values.tolist(), strict=True))
