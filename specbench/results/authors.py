"""Who wrote each part of an answer: the draft, whose tokens the target accepted, or the target itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from specbench.results.records import Generation, Round

Author = Literal["draft", "unverified draft", "correction", "bonus", "target"]
"""`correction`: the target's token in place of a refused one. `bonus`: its token behind a draft that was
accepted whole. `target`: its token in a round without a draft."""
DRAFTED: tuple[Author, ...] = ("draft", "unverified draft")


class Piece(NamedTuple):
    """Tokens of one author in one round.

    Args:
        round: its number, from 0.
        refused: drafted tokens that the target refused here; the target's own token stands in their place.
        refused_tokens: their ids; of a tree, those that could have followed what was accepted. Unknown in runs
            that did not store them, and where another process drafted.
        refused_text: the text of those.
    """

    round: int
    author: Author
    tokens: tuple[int, ...]
    text: str
    refused: int = 0
    refused_tokens: tuple[int, ...] | None = None
    refused_text: str = ""


def pieces(generation: Generation, decode: Callable[[Sequence[int]], str]) -> Iterator[Piece]:
    """The answer in pieces, whose texts joined are the whole text; without speculation all is the target's.

    Args:
        decode: the text of token ids from the answer's begin.
    """
    read: list[int] = []
    written = 0
    for number, each in enumerate(generation.rounds):
        for author, tokens in _parts(each):
            refused = _refused(each) if author == "correction" else 0
            ids = each.refused if refused else None
            # What was refused would have stood where this piece begins.
            refused_text = decode([*read, *ids])[written:] if ids else ""
            read += tokens
            text = decode(read)
            # A character of several tokens belongs to the one that completes it.
            whole = text if not text.endswith("\ufffd") else text[:written]
            yield Piece(number, author, tokens, whole[written:], refused, ids, refused_text)
            written = max(written, len(whole))


def _parts(each: Round) -> Iterator[tuple[Author, tuple[int, ...]]]:
    accepted, unverified = each.accepted or 0, each.unverified or 0
    if accepted:
        yield "draft", each.tokens[:accepted]
    if unverified:
        yield "unverified draft", each.tokens[accepted : accepted + unverified]
    if own := each.tokens[accepted + unverified :]:
        yield ("correction" if _refused(each) else "bonus" if accepted else "target"), own


def _refused(each: Round) -> int:
    """Of the longest path where the draft was a tree."""
    drafted = each.depth if each.depth is not None else each.drafted
    return max((drafted or 0) - (each.accepted or 0), 0)
