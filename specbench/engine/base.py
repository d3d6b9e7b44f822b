"""What every engine offers: sessions, passes that several sequences share, and what it cannot do."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from specbench.errors import ExitCode, SpecbenchError, first_line, is_out_of_memory
from specbench.models.context import reads_by_length, varying_positions
from specbench.models.media import inputs_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from specbench.engine.session import Block, KVSession
    from specbench.models.loading import LoadedModel
    from specbench.models.media import Media
    from specbench.models.vocabulary import DraftVocabulary


FIRST_PROBED, PROBED_TOKENS = 5, 6
TOLERANCE = 1e-2  # both passes have equal shapes, so that they hardly differ by rounding
BY_LENGTH = "its rotary frequencies (longrope) are those of the longest text of a pass"


class Engine(ABC):
    """Runs one model's forward passes; token ids and logits are the target's, whatever its own vocabulary is.

    Args:
        vocabulary_size: ids that mean something; logits of padding ids behind them are cut off.
        draft_vocabulary: how a draft with ids of its own reads and says the target's.
    """

    kind: ClassVar[str]
    role = ""
    """Whose model it is, `edge` or `cloud`, for messages."""
    adds_alibi = False
    """Whether attention itself adds ALiBi, for any length of a text."""

    def __init__(
        self, loaded: LoadedModel, vocabulary_size: int, draft_vocabulary: DraftVocabulary | None = None
    ) -> None:
        self.loaded = loaded
        self.vocabulary_size = vocabulary_size
        self.draft_vocabulary = draft_vocabulary
        self.passes = 0
        """How many forward passes this engine has made."""

    @property
    def module(self) -> nn.Module | None:
        """What torch computes the passes with; `None` where another library makes them."""
        return self.loaded.model

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of weights that one token must read; `None` where the token decides."""
        from specbench.engine.bandwidth import weight_bytes

        return weight_bytes(self.loaded.model)

    @property
    def own_size(self) -> int:
        """Ids that the model itself has."""
        return self.loaded.model.config.get_text_config().vocab_size

    @property
    def known_tokens(self) -> int:
        """How many of the target's tokens the model can say."""
        return len(self.draft_vocabulary.target_ids) if self.draft_vocabulary else self.vocabulary_size

    def to_own_ids(self, token_ids: Sequence[int]) -> Sequence[int]:
        """The target's ids as the model's own."""
        return self.draft_vocabulary.to_draft(token_ids) if self.draft_vocabulary else token_ids

    def to_target_ids(self, own_ids: Sequence[int]) -> list[int]:
        """The model's own ids as the target's."""
        known = self.draft_vocabulary
        return [known.target_ids[token] for token in own_ids] if known else list(own_ids)

    def to_target_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's own logits, shape (rows, its vocabulary), as the target's: (rows, vocabulary_size)."""
        return (
            self.draft_vocabulary.scatter(logits)
            if self.draft_vocabulary
            else logits[:, : self.vocabulary_size]
        )

    @abstractmethod
    def session(self, capacity: int | None = None) -> KVSession:
        """A cache slot for one sequence, empty.

        Args:
            capacity: tokens that it must hold; engines whose cache grows need not know.
        """

    @abstractmethod
    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Append tokens to several sessions in one pass; returns for each what its `extend` would.

        When it raises, every session is as it was.

        Raises:
            ValueError: sequences cannot share passes of this model.
        """

    def recompute(self, token_ids: Sequence[int], count: int, media: Media | None = None) -> torch.Tensor:
        """Logits behind the last `count` tokens by one pass without a cache, shape (count, vocabulary_size).

        The model prepares its own inputs, as it does for `generate`; whatever engine this is, transformers'
        own pass is made.
        """
        import torch

        model: Any = self.loaded.model
        own_ids = torch.tensor([list(self.to_own_ids(token_ids))], device=self.loaded.device)
        shown = inputs_of(self.loaded, media, token_ids) if media else {}
        with torch.inference_mode():
            inputs = model.prepare_inputs_for_generation(
                own_ids, use_cache=False, is_first_iteration=True, **shown
            )
            if "logits_to_keep" in inspect.signature(model.forward).parameters:
                inputs["logits_to_keep"] = count
            logits = model(**inputs).logits
        return self.to_target_logits(logits[0, -count:])

    @property
    def lasting_state(self) -> str | None:
        """Why no token can be taken out of the model's cache, where that is known without a pass."""
        return None

    @property
    def state(self) -> str | None:
        """What the model keeps of a text that cannot be cut, where its sessions restore it from copies."""
        return None

    def require_steps(self) -> None:
        """Refuse a model that does not decode token by token; two short passes.

        Raises:
            SpecbenchError: with the model's own reason, where its forward pass fails.
        """
        try:
            session = self.session()
            session.prefill(self._tokens(3))
            session.extend(self._tokens(1))
            held = session.cached_length
        except Exception as error:  # models raise whatever they like
            if isinstance(error, SpecbenchError) or is_out_of_memory(error):
                raise
            dtype = str(self.loaded.dtype).removeprefix("torch.")
            other = ", or try --set edge.dtype=float32 --set cloud.dtype=float32" if dtype != "float32" else ""
            raise SpecbenchError(
                f"a forward pass of {self.loaded.folder} in {dtype} fails: {first_line(error)}",
                f"see where with 'specbench --debug ...'{other}",
                ExitCode.MODEL,
            ) from error
        if held != session.length:
            raise SpecbenchError(
                f"{self.loaded.folder} cannot be decoded token by token: its cache holds {held} tokens after "
                f"{session.length}",
                "choose a model whose cache holds the tokens that it has read, and nothing else",
                ExitCode.MODEL,
            )

    def require_rollback(self) -> None:
        """Refuse a model whose cache cannot be shortened again, before anything is timed.

        Raises:
            SpecbenchError: naming what stands in the way.
        """
        if self.rollback_obstacle:
            raise SpecbenchError(
                f"the cache of {self.loaded.folder} cannot be rolled back, which speculation needs: "
                f"{self.rollback_obstacle}",
                "run it alone (specbench run cloud_optimized_baseline), or speculate with models whose layers "
                "are attention layers",
                ExitCode.MODEL,
            )

    def require_trees(self) -> None:
        """Refuse a model that cannot read trees, before anything is timed.

        Raises:
            SpecbenchError: naming what stands in the way.
        """
        if self.tree_obstacle:
            raise SpecbenchError(
                f"{self.loaded.folder} ({self.kind} engine) cannot read a tree of drafted tokens: "
                f"{self.tree_obstacle}",
                "draft chains instead (specbench run speculative)"
                + (", or --set engine.kind=eager" if self.kind == "compiled" else ""),
                ExitCode.MODEL,
            )

    def require_hidden_states(self, layers: Sequence[int], size: int) -> None:
        """Refuse a model that does not give hidden states of these layers. Takes one short pass, untimed.

        Args:
            size: what a draft takes for the hidden size.

        Raises:
            SpecbenchError: naming what stands in the way.
        """
        try:
            session = self.session()
            session.hidden_layers = tuple(layers)
            session.extend(self._tokens(2))
            if session.hidden_states is None:
                raise ValueError("its passes give logits alone")
            found = session.hidden_states.shape[-1]
            reason = "" if found == size else f"they have {found} numbers, and the draft reads {size}"
        except Exception as error:
            if isinstance(error, SpecbenchError) or is_out_of_memory(error):
                raise
            reason = first_line(error)
        if reason:
            raise SpecbenchError(
                f"{self.loaded.folder} ({self.kind} engine) gives no hidden states of its layers "
                f"{', '.join(map(str, layers))}: {reason}",
                "choose the target that the draft was made for",
                ExitCode.MODEL,
            )

    @cached_property
    def rollback_obstacle(self) -> str | None:
        """What keeps the model's cache from being rolled back; tried once, by four short passes."""
        return self.lasting_state or self._obstacle(self._rolled_back, "after a rollback")

    @cached_property
    def tree_obstacle(self) -> str | None:
        """What keeps the model from reading trees and keeping paths of them; tried once, by short passes."""
        config = self.loaded.model.config
        varying = BY_LENGTH if reads_by_length(config) else varying_positions(config, self.adds_alibi)
        known = self.state or self.lasting_state or varying
        return known or self._obstacle(self._branched, "behind a branch")

    def _obstacle(self, probe: Callable[[], tuple[torch.Tensor, torch.Tensor]], where: str) -> str | None:
        """Why the logits of two ways to read the same tokens differ, or why one of them fails."""
        try:
            expected, found = (logits.double() for logits in probe())
        except Exception as error:
            if isinstance(error, SpecbenchError) or is_out_of_memory(error):
                raise
            return first_line(error)
        known = expected.isfinite() & found.isfinite()
        worst = (found - expected)[known].abs().max() / expected[known].abs().max() if known.any() else 0.0
        return f"{where} its logits differ by {worst:.1%}" if worst > TOLERANCE else None

    def _rolled_back(self) -> tuple[torch.Tensor, torch.Tensor]:
        session = self.session()
        session.prefill(self._tokens(PROBED_TOKENS + session.own_window))
        before = session.length
        session.extend(self._tokens(2))
        if not session.can_truncate:
            raise ValueError(f"it has a {session.fixed_layer}")
        session.truncate(before)
        expected = session.extend(self._tokens(3))
        session.truncate(before)
        session.extend(list(reversed(self._tokens(4))))
        session.truncate(before)
        return expected, session.extend(self._tokens(3))

    def _branched(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A chain, and the same tokens in a tree of which they are kept; then what follows both."""
        import torch

        chain, tree = self.session(), self.session()
        *prompt, first, second, third, other = self._tokens(PROBED_TOKENS + 4)
        for session in (chain, tree):
            session.prefill(prompt)
        expected = chain.extend([first, second, third, other])[:3]
        found = tree.extend([first, other, second, third], [-1, -1, 0, 2])[[0, 2, 3]]
        chain.truncate(chain.length - 1)
        tree.keep([0, 2, 3])
        after = [session.extend([other, first]) for session in (chain, tree)]
        return torch.cat([expected, after[0]]), torch.cat([found, after[1]])

    def _tokens(self, count: int) -> list[int]:
        """Ids that the model knows, for passes that nobody reads; the first ones are often special."""
        known = self.known_tokens
        if self.draft_vocabulary is None:  # a tokenizer may have more ids than a model
            known = min(known, self.own_size)
        return self.to_target_ids([(FIRST_PROBED + index) % known for index in range(count)])
