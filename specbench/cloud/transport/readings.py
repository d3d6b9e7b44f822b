"""What a reply says of the target's pass beside its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.cloud.transport.answers import Committed, CommittedMore
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.fields import unpacked_ids
from specbench.speculation.request import Needs, TopIds

if TYPE_CHECKING:
    import torch


def readings(frame: Committed, needs: Needs, tokens: int) -> tuple[TopIds, torch.Tensor | None]:
    """Likeliest ids and hidden states of a reply, as the method needs them.

    Args:
        tokens: behind how many there must be hidden states while the text goes on.

    Raises:
        ChannelLostError: they are not whole.
    """
    more = frame if isinstance(frame, CommittedMore) else None
    top_ids: TopIds = ()
    states = None
    try:
        if needs.top_k:
            top_ids = unpacked_ids(more.top_ids if more else b"", needs.top_k)
        if needs.features and not frame.finish:
            states = needs.features.unpacked(more.hidden_states if more else b"")
            if len(states) != tokens:
                raise ValueError(f"hidden states behind {len(states)} tokens came, and {tokens} are needed")
    except ValueError as error:
        raise ChannelLostError(str(error)) from error
    return top_ids, states
