"""The greeting: both sides say what they speak, the edge which tokenizer it has, the cloud what it is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.answers import Refused
from specbench.cloud.transport.channel import Channel, ChannelLostError
from specbench.cloud.transport.facts import Facts
from specbench.errors import ExitCode, SpecbenchError

NO_IDENTITY = ("model", "bytes_per_second", "engine_note")  # where it lies, what was measured, why


def greeted(
    channel: Channel, tokenizer_sha256: str, before: Facts | None, accept: Callable[[Facts], None]
) -> Facts:
    """Greet the cloud at the other end of a new channel; returns what it says of itself.

    Args:
        before: what it said when it was first reached; it must be the same cloud.
        accept: raises `SpecbenchError` when a cloud that is new is not the one that the profile means.

    Raises:
        ChannelLostError: it refuses an edge that it has taken before.
        ProtocolError: it sends no frame.
        TimeoutError: it sends nothing.
        SpecbenchError: it refuses the edge, or is not the cloud that is meant.
    """
    channel.send(protocol.encode(protocol.Hello(1, protocol.VERSION, tokenizer_sha256)))
    while isinstance(frame := protocol.decode_down(channel.receive(channel.silence_s)), answers.Working):
        pass  # it is at work for another edge
    if isinstance(frame, Refused):
        refusal = f"the server refused: {frame.reason}"
        if before is not None:  # it took the same frame then: this one may have been damaged on its way
            raise ChannelLostError(refusal)
        raise SpecbenchError(refusal, exit_code=ExitCode.RUN)
    if not isinstance(frame, answers.Welcome) or frame.version != protocol.VERSION:
        raise SpecbenchError(
            f"the server does not use version {protocol.VERSION} of the protocol",
            "run the same version of specbench on both sides",
            ExitCode.RUN,
        )
    if before is None:
        accept(frame.facts)
    elif changed := _changed(before, frame.facts):
        raise SpecbenchError(
            f"after reconnecting, the server reports a different model ({changed})",
            "start a new run",
            ExitCode.RUN,
        )
    return frame.facts


def _changed(before: Facts, now: Facts) -> str | None:
    """The first fact that differs; neither what was measured matters, nor where the model lies there."""
    if before.profile_sha256 != now.profile_sha256 and (differs := before.profile.difference(now.profile)):
        return differs[0]
    # Memory differs by a few pages between boots of one machine.
    before, now = (
        msgspec.structs.replace(facts, machine=facts.machine | {"memory_bytes": None})
        for facts in (before, now)
    )
    names = (field for field in Facts.__struct_fields__ if field not in NO_IDENTITY)
    return next((name for name in names if getattr(before, name) != getattr(now, name)), None)
