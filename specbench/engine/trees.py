"""Trees of tokens behind a cache: where each token stands, and which others it sees."""

from __future__ import annotations

from collections.abc import Sequence

Places = tuple[list[int], list[int], list[int]]
"""What `places` returns."""
MOST_TOKENS = 64
"""Tokens of a tree: what a token sees of it is one word of so many bits."""


def places(length: int, count: int, parents: Sequence[int] | None, above: Sequence[int] = ()) -> Places:
    """Where a cache keeps the tokens that are read next, where they stand in their text, and what they see.

    Args:
        length: tokens in the cache.
        count: tokens that are read.
        parents: of each of them the index in the tree of the one before it, -1 for what is before the tree;
            `None` is a chain.
        above: parents of those tokens of the tree that the cache ends with.

    Returns:
        Indices in the cache, positions, and a signed word of 64 bits for each token: bit i is set where it sees
        token i of the tree, and no bit in a chain.

    Raises:
        ValueError: they are no tree of this many tokens, or a tree of too many.
    """
    slots = list(range(length, length + count))
    if parents is None:
        return slots, slots, [0] * count
    if len(parents) != count or not 0 < count <= MOST_TOKENS - len(above):
        before = f" behind {len(above)} others" if above else ""
        raise ValueError(
            f"{len(parents)} parents of {count} tokens{before}; a tree has 1 to {MOST_TOKENS} tokens"
        )
    seen: list[int] = []
    for index, parent in enumerate([*above, *parents]):
        if not -1 <= parent < index:
            raise ValueError(f"token {index} of a tree cannot follow token {parent}")
        seen.append((seen[parent] if parent >= 0 else 0) | 1 << index)
    root, own = length - len(above), seen[len(above) :]
    return slots, [root + word.bit_count() - 1 for word in own], [word - (word >> 63 << 64) for word in own]


def demand_path(path: Sequence[int], parents: Sequence[int]) -> None:
    """Refuse what is no way down from the root.

    Raises:
        ValueError: a token does not follow the one before it in the path.
    """
    for before, index in zip([-1, *path], path, strict=False):
        if not 0 <= index < len(parents) or parents[index] != before:
            raise ValueError(f"{list(path)} is no path of the tree {list(parents)}")
