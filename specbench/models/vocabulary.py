"""Whether draft and target speak of the same tokens, and drafts that know only some of them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.errors import ModelError, SpecbenchError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


FILLER = re.compile(r"\[PAD(\d+)\]")
"""What llama.cpp's converter calls the ids behind a vocabulary, `[PAD49153]`."""


def known(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Ids by token, without those that only fill a GGUF file's vocabulary up."""
    return {
        token: index
        for token, index in tokenizer.get_vocab().items()
        if not (token.startswith("[PAD") and (filler := FILLER.fullmatch(token)) and int(filler[1]) == index)
    }


def size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Ids that mean something: one more than the highest. Embeddings may be padded beyond it."""
    return max(known(tokenizer).values()) + 1


def demand_equal(edge: PreTrainedTokenizerBase, cloud: PreTrainedTokenizerBase) -> None:
    """Refuse a pair whose token-to-id maps differ: the target would verify other words than were drafted.

    Raises:
        SpecbenchError: naming the first id, or token, that differs.
    """
    ours, theirs = known(edge), known(cloud)
    if ours == theirs:
        return
    differing = min(ours.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))[0]
    raise ModelError(
        f"edge and cloud have different vocabularies ({len(ours)} and {len(theirs)} tokens): {differing!r} is "
        f"{ours.get(differing, 'absent')} on the edge and {theirs.get(differing, 'absent')} in the cloud",
        "choose a draft that shares the target's tokenizer, or add --set speculative.cross_vocabulary=tli to "
        "draft the tokens that both have; for a distilled draft with a vocabulary of its own, edge.vocab_map "
        "names the file that maps it",
    )


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the token-to-id map."""
    text = json.dumps(sorted(known(tokenizer).items()), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class DraftVocabulary:
    """A draft's own ids and the target's: the idea of FR-Spec (Zhao et al. 2025) and of EAGLE-3's d2t table.

    What the draft cannot say it never proposes; what it has not seen it reads as its unknown token.

    Args:
        target_ids: the target's id of every draft id, no two alike.
        unknown_id: the draft id that stands for all of the target's other tokens.
        target_size: how many ids the target's vocabulary has.
        tokenizer_sha256: `fingerprint` of the target's tokenizer.
    """

    target_ids: tuple[int, ...]
    unknown_id: int
    target_size: int
    tokenizer_sha256: str

    @classmethod
    def read(cls, path: Path, draft_size: int) -> DraftVocabulary:
        """The map in a file, for a draft whose output has `draft_size` rows.

        Raises:
            SpecbenchError: the file is missing or is no map, or the map is of another length, out of range, or
                not injective.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            found = cls(
                tuple(fields["target_ids"]),
                fields["unknown_id"],
                fields["target_vocabulary_size"],
                fields["tokenizer_sha256"],
            )
            numbers = [found.unknown_id, found.target_size, *found.target_ids]
            if not all(type(number) is int for number in numbers):
                raise TypeError("its ids are not all whole numbers")
        except OSError as error:
            raise ModelError(
                f"vocabulary map {path} cannot be read: {error.strerror}",
                "a draft that knows all of the target's tokens has none: --set edge.vocab_map=null",
            ) from error
        except KeyError as error:
            raise _bad_map(path, f"has no {error.args[0]}") from error
        except (ValueError, TypeError) as error:
            raise _bad_map(path, f"is no vocabulary map: {error}") from error
        if len(found.target_ids) != draft_size:
            raise _bad_map(path, f"has {len(found.target_ids)} ids, and the draft {draft_size}")
        if len(set(found.target_ids)) != draft_size:
            raise _bad_map(path, "names one of the target's ids twice")
        if not 0 <= min(found.target_ids) <= max(found.target_ids) < found.target_size:
            raise _bad_map(path, f"names an id outside the target's {found.target_size}")
        if not 0 <= found.unknown_id < draft_size:
            raise _bad_map(path, f"has the unknown_id {found.unknown_id}, which the draft does not have")
        return found

    def demand_target(self, cloud: PreTrainedTokenizerBase) -> None:
        """Refuse a target other than the one the draft was made for.

        Raises:
            SpecbenchError: its tokenizer is another.
        """
        if fingerprint(cloud) != self.tokenizer_sha256:
            raise ModelError(
                "the draft's vocabulary map does not match the cloud's tokenizer",
                "choose the target that the draft was made for",
            )

    def to_draft(self, token_ids: Sequence[int]) -> list[int]:
        """The target's ids as the draft reads them."""
        return [self._draft_ids.get(token, self.unknown_id) for token in token_ids]

    def scatter(self, logits: torch.Tensor) -> torch.Tensor:
        """A draft's logits in the target's ids, minus infinity where it cannot speak.

        Args:
            logits: shape (rows, draft vocabulary).

        Returns:
            Shape (rows, target vocabulary).
        """
        spread = logits.new_full((logits.shape[0], self.target_size), -math.inf)
        return spread.index_copy_(-1, self._index.to(logits.device), logits)

    @cached_property
    def _index(self) -> torch.Tensor:
        import torch

        return torch.tensor(self.target_ids)

    @cached_property
    def _draft_ids(self) -> dict[int, int]:
        return {target: draft for draft, target in enumerate(self.target_ids)}


def _bad_map(path: Path, reason: str) -> SpecbenchError:
    return ModelError(f"vocabulary map {path} {reason}", "distil the draft again")
