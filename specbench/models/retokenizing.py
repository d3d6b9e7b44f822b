"""Draft and target of two families: what one says is read by the other as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOOKBACK = (
    8  # tokens before a draft with which it is read, for a word may go on and a space be its first letter
)
CUT_OFF = "\ufffd"  # what the bytes of an unfinished character are decoded to


@dataclass(frozen=True)
class Retokenizer:
    """Ids of one tokenizer as those of another, by their text.

    Args:
        edge: the draft's tokenizer; `cloud` the target's.
    """

    edge: PreTrainedTokenizerBase
    cloud: PreTrainedTokenizerBase

    def to_draft(self, token_ids: Sequence[int]) -> list[int]:
        """A whole sequence of the target's as the draft reads it."""
        return _encoded(self.edge, _text(self.cloud, token_ids))

    def to_target(self, drafted: Sequence[int], read: Sequence[int], behind: Sequence[int]) -> list[int]:
        """Drafted tokens as the target would write them.

        Args:
            drafted: ids of the draft's, behind `read`.
            behind: ids of the target's that end where `drafted` begins.
        """
        before = list(read[-LOOKBACK:])
        said = _text(self.edge, [*before, *drafted])[len(_text(self.edge, before)) :].rstrip(CUT_OFF)
        known = list(behind[-LOOKBACK:])
        together = _encoded(self.cloud, _text(self.cloud, known) + said)
        if together[: len(known)] == known:
            return together[len(known) :]
        return _encoded(
            self.cloud, said
        )  # the target's own words are not those that its tokenizer would choose

    @property
    def share(self) -> float:
        """Of the target's tokens, those that the draft has too."""
        theirs = texts(self.cloud)
        return len(theirs.keys() & texts(self.edge).keys()) / len(theirs)


def texts(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Ids by token, the sign that a family writes for a space replaced by one."""
    first = tokenizer.tokenize(" a")
    sign = first[0][0] if first else " "
    sign = sign if not sign.isascii() else " "
    return {token.replace(sign, " "): index for token, index in tokenizer.get_vocab().items()}


def _text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False))


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)
