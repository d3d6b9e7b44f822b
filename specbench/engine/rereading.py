"""How tokens are read again behind a restored state, and what that costs; without torch, for forecasts."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOGETHER = 16
"""Tokens that are read again in one pass with new ones; more get a pass of their own, and a copy behind it."""


def passes(again: int, count: int) -> tuple[int, ...]:
    """Tokens of each pass that reads `count` tokens behind `again` that are read for the second time."""
    return (again, count) if again > MOST_TOGETHER else (again + count,)


@dataclass
class Restored:
    """What it has cost a session to go back to earlier states.

    Args:
        replayed_tokens: read once more behind a restored state.
        snapshot_bytes: copied, to keep states and to restore them.
    """

    replayed_tokens: int = 0
    snapshot_bytes: int = 0

    def taken(self) -> Restored:
        """What it has cost since this was last asked."""
        found = Restored(self.replayed_tokens, self.snapshot_bytes)
        self.replayed_tokens = self.snapshot_bytes = 0
        return found


def left_again(again: int, count: int, refused: int) -> int:
    """Tokens to read again behind a pass over `count` new ones, of which the last `refused` are forgotten."""
    behind = again if len(passes(again, count)) == 1 else 0
    return behind + count - refused if refused else 0


class Reread:
    """What a session that restores its state would read again, for passes that are only modelled.

    Args:
        restores: whether it does; one that cuts its cache reads every token once.
    """

    def __init__(self, restores: bool) -> None:
        self._restores = restores
        self._again = 0

    @property
    def again(self) -> int | None:
        """Tokens that the next pass reads for the second time; `None` where none ever does."""
        return self._again if self._restores else None

    def passes(self, count: int) -> tuple[int, ...]:
        """Tokens of each pass that reads `count` new ones."""
        return passes(self._again, count)

    def judged(self, count: int, refused: int) -> None:
        """Hear that of the `count` new tokens of a pass the last `refused` are forgotten."""
        if self._restores:
            self._again = left_again(self._again, count, refused)
