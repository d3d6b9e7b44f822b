"""What arrived from one edge and can be answered by one pass: drafts that go on from each other."""

from __future__ import annotations

import asyncio
import queue
from typing import Protocol, TypeVar

from specbench.cloud.transport import protocol
from specbench.cloud.transport.fields import ProtocolError
from specbench.cloud.transport.protocol import Verify, VerifyTree
from specbench.profile.decoding import LONGEST_DRAFT

Arrival = tuple[bytes | str, float]
"""A message, and when it arrived, by `now_ms`."""
Follower = tuple[Verify, float]
ArrivalT = TypeVar("ArrivalT", bound=Arrival)
ArrivalCo = TypeVar("ArrivalCo", covariant=True)


class Inbox(Protocol[ArrivalCo]):
    """What came from an edge; `None` behind the last one. As of `asyncio.Queue` and `queue.SimpleQueue`."""

    def get_nowait(self) -> ArrivalCo | None:
        """The next one.

        Raises:
            queue.Empty: there is none yet; or `asyncio.QueueEmpty`.
        """

    def empty(self) -> bool:
        """Whether there is none yet."""


def followers(message: bytes | str, inbox: Inbox[ArrivalT]) -> tuple[list[Follower], list[ArrivalT | None]]:
    """Take the drafts out of an inbox that go on from a draft and fit into its pass.

    Returns:
        Those drafts, and what else was taken out: nothing, or the first arrival that is none of them.
    """
    if inbox.empty():
        return [], []  # as always with a window of one: no frame is decoded twice
    found: list[Follower] = []
    last = _draft(message)
    width = len(last.tokens) if last else 0
    while last is not None and last.continues:
        try:
            item = inbox.get_nowait()
        except (asyncio.QueueEmpty, queue.Empty):
            break
        following = _draft(item[0]) if item else None
        if item is None or following is None or not _goes_on(last, following, width):
            return found, [item]
        found.append((following, item[1]))
        last, width = following, width + len(following.tokens)
    return found, []


def _draft(message: bytes | str) -> Verify | None:
    try:
        frame = protocol.decode_up(message if isinstance(message, bytes) else message.encode())
    except ProtocolError:
        return None  # who answers it says so
    return frame if isinstance(frame, Verify) else None


def _goes_on(draft: Verify, following: Verify, width: int) -> bool:
    is_next = following.number == draft.number + 1
    is_same = (following.text, following.epoch) == (draft.text, draft.epoch)
    is_chain = not isinstance(following, VerifyTree)  # a tree has a pass of its own
    is_behind = following.start == (None if draft.start is None else draft.start + len(draft.tokens))
    fits = width + len(following.tokens) <= LONGEST_DRAFT
    return is_next and is_same and is_chain and is_behind and fits
