"""How many tokens a text has, by the tokenizer of a profile's target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench.profile import Profile


class TokenCounter:
    """Counts the tokens of a text, without a chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self._tokenizer = tokenizer
        self.name = name
        """Whose tokenizer it is."""

    @classmethod
    def of(cls, profile: Profile) -> TokenCounter:
        """That of the profile's target; no weights are loaded.

        Raises:
            SpecbenchError: there is no such model, or its tokenizer cannot be loaded.
        """
        from specbench.models.files import locate
        from specbench.models.loading import load_tokenizer

        spec = profile.cloud
        return cls(load_tokenizer(locate(spec, weights=False), spec), spec.model)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))
