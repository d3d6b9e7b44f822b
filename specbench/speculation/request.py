"""What a method is asked, and a verification in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from specbench.models.media import Media
from specbench.results.records import Round
from specbench.speculation.features import Features
from specbench.speculation.grammar import Grammar
from specbench.speculation.stop_strings import StopStrings


@dataclass(frozen=True)
class Request:
    """One prompt to continue.

    Args:
        prompt_ids: the conversation so far, in the target's token ids.
        max_new_tokens: the budget, at least 1.
        stop_ids: a committed id among these ends the text; it counts as a token of it.
        seed: of everything random in this generation.
        stop_strings: texts that end it too; `None` without any.
        grammar: what the answer may be; `None` where it may be any text.
        media: images and sounds that `prompt_ids` has placeholders for; `None` without any.
        left_out: placeholders that `prompt_ids` lacks, for a model that does not read them.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int]
    seed: int = 0
    stop_strings: StopStrings | None = None
    grammar: Grammar | None = None
    media: Media | None = None
    left_out: int = 0

    def as_read_by(self, role: str) -> Request:
        """The same for a role's model: one that reads no images and sounds reads the text around them.

        Placeholders are left out there. They stand for what such a model cannot read, it never saw them in its
        training, and each would cost it as much as a token.
        """
        if self.media is None or role == "cloud" or (role == "edge" and self.media.drafted):
            return self
        ids = tuple(token for token in self.prompt_ids if token not in self.media.placeholder_ids)
        return replace(self, prompt_ids=ids, media=None, left_out=len(self.prompt_ids) - len(ids))

    def cut(self, text: Sequence[int], tokens: Sequence[int]) -> tuple[tuple[int, ...], str | None]:
        """What of a verified block is committed: up to where the text ends, and never beyond the budget.

        Args:
            text: the prompt and all that is committed.

        Returns:
            The committed ids, and `stop`, `length`, or `None` while the text goes on.
        """
        answer = text[len(self.prompt_ids) :]
        kept = tuple(tokens[: self.max_new_tokens - len(answer)])
        ends = [index for index, token in enumerate(kept, start=1) if token in self.stop_ids][:1]
        if self.stop_strings and (end := self.stop_strings.end(answer, kept)) is not None:
            ends.append(end)
        if ends:
            return kept[: min(ends)], "stop"
        return kept, "length" if len(answer) + len(kept) >= self.max_new_tokens else None


@dataclass(frozen=True)
class Needs:
    """What a method asks of the target that verifies for it, beyond chains of drafted tokens.

    Args:
        trees: it proposes trees.
        top_k: how many of the target's likeliest next ids it reads, behind every token that the target reads.
        features: hidden states of the target that its draft reads; `None` where it reads none.
    """

    trees: bool = False
    top_k: int = 0
    features: Features | None = None


TopIds = tuple[tuple[int, ...], ...]
"""The target's likeliest next ids by its logits, the likeliest first, a row for each token that a pass judged.

The first row follows the committed tokens that a proposal follows, and row i + 1 its token i. There is one row
behind a prompt, and none where `Needs.top_k` is 0.
"""


class Pending(Protocol):
    """A verification under way."""

    @property
    def is_done(self) -> bool:
        """Whether `result` would return at once."""

    def result(self) -> Round:
        """Wait for the verification, and commit what it accepted. To be called once."""
