"""Texts that end an answer: found across the borders of tokens, and cut off it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specbench.profile.decoding import UNREADABLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench.profile import Decoding

MARGIN = 16
"""Tokens that are read before those that can hold a stop string: a piece may begin otherwise than in a text."""


def text_of(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], special: bool = False) -> str:
    """What is stored of an answer: without special tokens, every space kept that a tokenizer would take out.

    Args:
        special: with special tokens.
    """
    return str(
        tokenizer.decode(list(token_ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
    )


@dataclass(frozen=True)
class StopStrings:
    """The stop strings of an answer, and how its tokens are read.

    An answer ends with the first token that completes one of them, and its text before it. That is what vLLM
    does with `include_stop_str_in_output: false`, which counts that token too.

    Args:
        strings: none of them empty.
        decode: the text of token ids, as it is stored.
        min_new_tokens: tokens of the answer that complete none.
    """

    strings: tuple[str, ...]
    decode: Callable[[Sequence[int]], str] = field(compare=False)
    min_new_tokens: int = 0

    @classmethod
    def of(cls, decoding: Decoding, tokenizer: PreTrainedTokenizerBase) -> StopStrings | None:
        """Those of a profile; `None` where it has none."""
        if not decoding.stop:
            return None

        def decode(token_ids: Sequence[int]) -> str:
            return text_of(tokenizer, token_ids)

        return cls(decoding.stop, decode, decoding.min_new_tokens)

    def end(self, answer: Sequence[int], tokens: Sequence[int]) -> int | None:
        """How many of `tokens`, behind what is answered so far, there are up to the end; `None` without one."""
        # A token has a byte at least, but for special ones, which end a text or are rare.
        longest = max(len(text.encode()) for text in self.strings)
        before = [*answer[-longest - MARGIN :]]
        whole = self.decode([*before, *tokens])
        if not any(text in whole for text in self.strings):
            return None
        for count in range(max(1, self.min_new_tokens - len(answer) + 1), len(tokens) + 1):
            if self._place([*before, *tokens[:count]])[1] is not None:
                return count
        return None

    def text(self, answer: Sequence[int]) -> str:
        """The text of a whole answer, cut before the stop string that its last token completes."""
        whole, place = self._place(answer)
        return whole[:place] if len(answer) > self.min_new_tokens else whole

    def _place(self, token_ids: Sequence[int]) -> tuple[str, int | None]:
        """The text of token ids, and where in it the first stop string begins that the last one completes."""
        whole = self.decode(token_ids)
        known = len(self.decode(token_ids[:-1]).rstrip(UNREADABLE))
        places = [whole.find(text, max(0, known - len(text) + 1)) for text in self.strings]
        return whole, min((place for place in places if place >= 0), default=None)
