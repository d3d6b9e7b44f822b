"""Whether draft and target speak of the same tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Ids that mean something: one more than the highest. Embeddings may be padded beyond it."""
    return max(tokenizer.get_vocab().values()) + 1


def demand_equal(edge: PreTrainedTokenizerBase, cloud: PreTrainedTokenizerBase) -> None:
    """Refuse a pair whose token-to-id maps differ: the target would verify other words than were drafted.

    Raises:
        SpecbenchError: naming the first id, or token, that differs.
    """
    ours, theirs = edge.get_vocab(), cloud.get_vocab()
    if ours == theirs:
        return
    differing = min(ours.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))[0]
    raise SpecbenchError(
        f"edge and cloud have different vocabularies ({len(ours)} and {len(theirs)} tokens): {differing!r} is "
        f"{ours.get(differing, 'absent')} on the edge and {theirs.get(differing, 'absent')} in the cloud",
        "choose a draft that shares the target's tokenizer",
        ExitCode.MODEL,
    )
