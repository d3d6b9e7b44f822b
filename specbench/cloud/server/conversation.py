"""A conversation with one edge in the thread that computes: nobody is woken between a frame and its pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from specbench.cloud.server.arrivals import Inbox, followers
from specbench.cloud.server.service import Service
from specbench.engine.batch import Results


class WaitingInbox(Inbox[tuple[bytes, float]], Protocol):
    """Frames of an edge, and when they came, by `now_ms`."""

    def get(self) -> tuple[bytes, float] | None:
        """The next one, which is waited for."""


def converse(service: Service, inbox: WaitingInbox, answer: Callable[[Results[bytes]], Iterator[None]]) -> None:
    """Answer frames until one side ends it.

    Args:
        answer: sends each of the replies, and yields behind each.
    """
    held: list[tuple[bytes, float] | None] = []
    while not service.is_over and (item := held[0] if held else inbox.get()):
        following, held = followers(item[0], inbox)
        replies = service.handle(*item, following)
        for _ in answer(replies):
            if service.streams and not inbox.empty():  # the edge reads it no further
                break
        replies.close()
