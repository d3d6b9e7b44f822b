"""One sequence in a KV cache that can be rolled back, and blocks of tokens to read behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.engine import trees
from specbench.engine.finite import demand_finite
from specbench.engine.rereading import Restored
from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    import torch

    from specbench.models.media import Media


class KVSession(ABC):
    """One sequence in a cache: append tokens, read their logits, cut back to an absolute length."""

    restored: Restored | None = None
    """What going back has cost, where a state is restored and not cut."""

    def __init__(self, role: str) -> None:
        """`role` is whose model it is, `edge` or `cloud`, for messages."""
        self._role = role
        self._length = 0
        self.hidden_layers: tuple[int, ...] = ()
        """Layers whose hidden states a pass leaves in `hidden_states`: 0 is the embedding, 1 the first."""
        self.hidden_states: torch.Tensor | None = None
        """Of the tokens of the last pass, shape (tokens, layers, hidden size)."""
        self.given: torch.Tensor | None = None
        """For a draft that reads hidden states: one for each token of the next pass, shape (tokens, size)."""
        self._tree: list[int] = []
        """Parents in the tree that the cache ends with, until a path of it is kept."""

    @property
    def length(self) -> int:
        """Tokens whose keys and values are in the cache."""
        return self._length

    @abstractmethod
    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append a prompt; returns the logits after its last token, shape (1, vocabulary_size)."""

    @abstractmethod
    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """Append tokens; row i of the result follows token i, shape (len(token_ids), vocabulary_size).

        Args:
            parents: which token of a tree each one follows, -1 where it follows all that is before the tree;
                `None` is a chain. A tree may grow by several calls, at most to `trees.MOST_TOKENS`, and indices
                count through all of them. `keep` or `truncate` comes before a chain is read behind it.

        Raises:
            ValueError: they form no tree, or the engine cannot read trees; nothing was read.
        """

    def in_parts(self, ends: Sequence[int], read: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
        """Read a prompt part by part; `given` and `hidden_states` are those of all of it.

        Args:
            ends: where each part ends, in the prompt.
            read: appends the tokens from one place to another.

        Returns:
            What it returns for the last part.
        """
        import torch

        given, begin = self.given, 0
        states: list[torch.Tensor] = []
        for end in ends:
            self.given = None if given is None else given[begin:end]
            logits = read(begin, end)
            if self.hidden_states is not None:
                states.append(self.hidden_states)
            begin = end
        self.given = given
        self.hidden_states = torch.cat(states) if self.hidden_layers else None
        return logits

    def demand_room(self, count: int) -> None:
        """Refuse what does not fit, before anything is written; a cache that grows has room for all.

        Raises:
            ValueError: the cache was made for fewer tokens.
        """
        return

    def places(self, count: int, parents: Sequence[int] | None = None) -> trees.Places:
        """Where tokens that are read next are kept, where they stand and what they see; see `trees.places`.

        Raises:
            ValueError: they are no tree, or a chain behind a tree.
        """
        if parents is None:
            self.demand_no_tree()
        return trees.places(self._length, count, parents, self._tree)

    def demand_no_tree(self) -> None:
        """Refuse to read a chain behind branches.

        Raises:
            ValueError: the cache ends with a tree.
        """
        if self._tree:
            raise ValueError("a tree was read last: keep a path of it before a chain is read")

    def draft_greedy(self, unread: Sequence[int], count: int) -> list[int]:
        """Append `unread`, then the model's own most likely tokens, each behind the one before.

        Returns:
            `count` tokens; all but the last are in the cache.

        Raises:
            NotFiniteError: no token can be read from the logits.
        """
        drafted: list[int] = []
        while len(drafted) < count:
            logits = self.extend(unread)[-1:]
            demand_finite(logits, self._role)
            unread = logits.argmax(-1).tolist()
            drafted += unread
        return drafted

    def show(self, media: Media) -> None:
        """Have the first pass, which must read the whole prompt, put images and sounds into their places.

        Raises:
            SpecbenchError: this engine reads text alone.
        """
        raise SpecbenchError(
            f"the {self._role} model's engine reads text alone, and the prompt shows an image or a sound",
            "add --set engine.kind=eager",
        )

    def settle(self, length: int) -> None:
        """Note that the first `length` tokens of the text, read or not, will not be rolled back."""
        return

    def truncate(self, length: int) -> None:
        """Forget all tokens behind the first `length`.

        Raises:
            ValueError: `length` is negative or longer than the cache, or lies in a tree.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} tokens to {length}")
        start = self.length - len(self._tree)
        if start < length < self.length:
            raise ValueError(f"cannot truncate to {length} within a tree behind {start} tokens: keep a path")
        self._forget(self.length - length)
        self._length = length
        if length <= start:
            self._tree = []

    def keep(self, path: Sequence[int]) -> None:
        """Keep of the tree that was read last one path alone, as if it had been read as a chain.

        Args:
            path: indices in the tree, from one of its first tokens to the last one to keep; may be empty.

        Raises:
            ValueError: no tree was read last, or it has no such path.
        """
        import torch

        if not self._tree:
            raise ValueError("no tree was read last")
        trees.demand_path(path, self._tree)
        start = self._length - len(self._tree)
        end = start + len(path)
        if list(path) != list(range(len(path))):
            places = torch.tensor([start + index for index in path])
            with torch.inference_mode():
                for _, tensor in self.tensors():
                    places = places.to(tensor.device)
                    tensor[:, :, start:end] = tensor[:, :, places]
        self._tree = []
        self.truncate(end)

    @abstractmethod
    def _forget(self, count: int) -> None:
        """Take the last `count` tokens out of the cache."""

    def grown(self, count: int, parents: Sequence[int] | None = None) -> None:
        """A pass has put `count` tokens into the cache, of a tree where `parents` are given."""
        self._length += count
        self._tree += parents or ()

    @property
    @abstractmethod
    def cached_length(self) -> int:
        """The length that the cache itself reports; equal to `length` unless something is wrong."""

    @property
    def can_truncate(self) -> bool:
        """Whether every layer that has been used can be rolled back."""
        return self.cached_length == self._length and self.fixed_layer is None

    @property
    def fixed_layer(self) -> str | None:
        """The first kind of layer that cannot be rolled back, if there is one."""
        return None

    @property
    def own_window(self) -> int:
        """Tokens behind which a layer of the model's own making drops some; 0 where there is none."""
        return 0

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The cache's tensors with their names, for the precision audit."""


@dataclass(frozen=True)
class Block:
    """Tokens that a text wants to have read behind those in its cache; a tree where `parents` are given."""

    session: KVSession
    token_ids: Sequence[int]
    parents: Sequence[int] | None = None

    def passed(self) -> Passed:
        """Read them in a pass of their own."""
        started = now_ms()
        logits = self.session.extend(self.token_ids, self.parents)
        return Passed(logits, now_ms() - started, 1)


@dataclass(frozen=True)
class Passed:
    """A block that was read.

    Args:
        logits: row i follows token i, shape (len(token_ids), vocabulary_size).
        pass_ms: what the pass took, for all that shared it.
        shared: texts that did.
    """

    logits: torch.Tensor
    pass_ms: float
    shared: int
