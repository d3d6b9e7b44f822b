"""What drafters read of the target's passes beside its verdicts, as `Needs` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.speculation.request import Needs, TopIds

if TYPE_CHECKING:
    import torch

    from specbench.speculation.rules import Verdict


class Readings:
    """Likeliest ids and hidden states of the pass behind the last commit."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self.top_ids: TopIds = ()
        self._states: torch.Tensor | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose hidden states the passes must leave behind."""
        return self._needs.features.layers if self._needs.features else ()

    @property
    def hidden_states(self) -> torch.Tensor | None:
        """As a draft reads them, float32 of shape (tokens, layers, size); see `Target.hidden_states`."""
        if self._needs.features is None or self._states is None:
            return None
        return self._needs.features.rounded(self._states)

    @property
    def packed_states(self) -> bytes:
        """The same as they cross the wire; no bytes where there are none."""
        if self._needs.features is None or self._states is None:
            return b""
        return self._needs.features.packed(self._states)

    def begin(self, logits: torch.Tensor | None, states: torch.Tensor | None) -> None:
        """Note the pass over a prompt.

        Args:
            logits: behind it, shape (1, vocabulary); `None` where nobody reads them.
            states: of all its tokens, shape (tokens, layers, size).
        """
        self.top_ids = self._likeliest(logits) if logits is not None else ()
        self._states = states

    def judge(self, verdict: Verdict, logits: torch.Tensor, states: torch.Tensor | None, from_end: int) -> None:
        """Note the rows of a pass that decided about a proposal: one for each token that it commits.

        Args:
            logits: row 0 decides about the first token, and row i + 1 about what follows token i.
            states: of all tokens of the pass, in which those rows begin so many before the end.
        """
        self.top_ids = self._likeliest(logits)
        if states is not None:
            deciding = [0, *(1 + node for node in verdict.nodes)]
            states = states[-from_end:][deciding[: len(verdict.nodes) + len(verdict.own)]]
        self._states = states

    def end(self) -> None:
        """The text has ended: nobody drafts behind it."""
        self._states = None

    def _likeliest(self, rows: torch.Tensor) -> TopIds:
        if not self._needs.top_k:
            return ()
        return tuple(map(tuple, rows.topk(self._needs.top_k).indices.tolist()))
