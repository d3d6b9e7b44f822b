"""Draft and target of two families: the draft proposes the tokens that both have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from specbench.errors import ModelError
from specbench.models import vocabulary
from specbench.models.retokenizing import texts
from specbench.models.vocabulary import DraftVocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class CommonTokens(DraftVocabulary):
    """Token-level intersection (Timor et al. 2025, "TLI"): all other tokens of the draft get probability zero.

    A draft so restricted is a distribution over the target's tokens, so that every rule judges it as it is. A
    token that the draft lacks is read as the last one of those into which its own tokenizer splits the text.

    Args:
        draft_ids: the draft's ids of the common tokens, in the order of `target_ids`.
        edge: the draft's tokenizer; `cloud` the target's.
    """

    draft_ids: tuple[int, ...]
    edge: PreTrainedTokenizerBase
    cloud: PreTrainedTokenizerBase

    @classmethod
    def of(cls, edge: PreTrainedTokenizerBase, cloud: PreTrainedTokenizerBase, draft_size: int) -> CommonTokens:
        """What two tokenizers have in common.

        Args:
            draft_size: rows of the draft's output.

        Raises:
            SpecbenchError: nothing.
        """
        ours, theirs = texts(edge), texts(cloud)
        pairs = sorted((theirs[text], ours[text]) for text in ours.keys() & theirs.keys())
        pairs = [pair for pair in pairs if pair[1] < draft_size]
        if not pairs:
            raise ModelError(
                "edge and cloud have no token in common", "choose a draft that shares the target's tokenizer"
            )
        target_ids, draft_ids = zip(*pairs, strict=True)
        size = vocabulary.size(cloud)
        return cls(target_ids, draft_ids[0], size, vocabulary.fingerprint(cloud), draft_ids, edge, cloud)

    @property
    def share(self) -> float:
        """Of the target's tokens, those that the draft can say."""
        return len(self.target_ids) / self.target_size

    def to_draft(self, token_ids: list[int] | tuple[int, ...]) -> list[int]:  # type: ignore[override]
        """The target's ids as the draft reads them."""
        return [self._read(token) for token in token_ids]

    def scatter(self, logits: torch.Tensor) -> torch.Tensor:
        """A draft's logits in the target's ids, minus infinity where the draft lacks the token."""
        return super().scatter(logits[:, list(self.draft_ids)])

    def _read(self, token: int) -> int:
        if token not in self._draft_ids:
            text = self.cloud.decode([token])
            split = self.edge.encode(text, add_special_tokens=False)
            self._draft_ids[token] = split[-1] if split else self.unknown_id
        return self._draft_ids[token]

    @cached_property
    def _draft_ids(self) -> dict[int, int]:
        return dict(zip(self.target_ids, self.draft_ids, strict=True))
