"""The target of a profile, run in this process: a reference where there is no second server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.benchmark.conversation import prompt_ids
from specbench.servers.answers import Completion, Prompt, Token
from specbench.servers.base import Server, Stopwatch

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

    def complete(
        self,
        prompt: Prompt,
        most: int,
        temperature: float = 0.0,
        seed: int = 0,
        top: int = 0,
        fresh: bool = False,
    ) -> Completion:
        """As of `Server`; every request is read anew."""
        import torch

        watch, random = Stopwatch(), torch.Generator().manual_seed(seed)
        ids = list(self._ids(prompt))
        session = self._target.engine.session(len(ids) + most)
        row = session.prefill(ids)[-1]
        tokens: list[int] = []
        tops: list[dict[Token, float]] = []
        while True:
            token = _drawn(row, temperature, random)
            tokens.append(token)
            watch.note(1)
            if top:
                tops.append(_top(row, top))
            has_stopped = token in self._target.stop_ids
            if has_stopped or len(tokens) == most:
                break
            row = session.extend([token])[-1]
        return Completion(
            str(self._target.tokenizer.decode(tokens)),
            "stop" if has_stopped else "length",
            tuple(tokens),
            tuple(tops) or None,
            prompt_tokens=len(ids),
            completion_tokens=len(tokens),
            total_ms=watch.total_ms,
            parts=tuple(watch.parts),
        )

    def stream(self, prompt: Prompt, most: int) -> Completion:
        """As of `Server`."""
        return self.complete(prompt, most)

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
