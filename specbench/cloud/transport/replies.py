"""A frame that was sent, and a frame that came back, each with what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from specbench.cloud.transport.answers import Down
from specbench.cloud.transport.fields import Frame
from specbench.errors import ExitCode, SpecbenchError

FrameT = TypeVar("FrameT", bound=Frame)


@dataclass(frozen=True)
class Reply:
    """A frame from the cloud, and what it took.

    Args:
        waited_ms: how long the edge stood still for it.
        elapsed_ms: from sending the question to the arrival of this; `None` where it was here unread.
    """

    frame: Down
    bytes_down: int
    downlink_ms: float | None
    waited_ms: float
    elapsed_ms: float | None

    def of(self, kind: type[FrameT]) -> FrameT:
        """The frame, of the kind that was asked for.

        Raises:
            SpecbenchError: the cloud answers with another kind.
        """
        if not isinstance(self.frame, kind):
            name = type(self.frame).__name__
            raise SpecbenchError(f"the cloud answers with a {name}", exit_code=ExitCode.RUN)
        return self.frame


@dataclass(frozen=True)
class Sent:
    """A frame that was sent.

    Args:
        epoch: which of the connections, one after the other, carried it.
        uplink_ms: as of `Channel`.
    """

    number: int
    epoch: int
    bytes_up: int
    sent_ms: float
    uplink_ms: float | None
