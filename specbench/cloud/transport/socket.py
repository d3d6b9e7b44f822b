"""A channel over a WebSocket."""

from __future__ import annotations

import ssl
from contextlib import ExitStack

from specbench.cloud.transport.channel import Channel, ChannelLostError
from specbench.cloud.transport.fields import MAX_FRAME_BYTES
from specbench.errors import ExitCode, SpecbenchError

SILENCE_S = 30.0  # a cloud at work gives a sign more often
PING_S = 5.0
PONG_S = 20.0  # with the ping less than an edge's patience: its own dead connection may fill the server
OPEN_S = 10.0
BRIEF_OPEN_S = 2.0  # where the cloud has been given up


class SocketChannel(Channel):
    """One connection to a `specbench serve`.

    Args:
        url: `ws://host:port` or `wss://host:port`.
        token: what the server asks for, if it does.
        open_s: how long it may take to answer.

    Raises:
        ChannelLostError: nobody answers there, or there is no room; to be tried again.
        SpecbenchError: the address, the token or the certificate is not good, and will not be.
    """

    silence_s: float | None = SILENCE_S

    def __init__(self, url: str, token: str | None = None, open_s: float = OPEN_S) -> None:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
        from websockets.sync.client import connect

        self._closed = ConnectionClosed
        self._stack = ExitStack()
        try:
            self._socket = self._stack.enter_context(
                connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                    compression=None,  # it would cost more time than the few bytes of a frame
                    max_size=MAX_FRAME_BYTES,
                    open_timeout=open_s,
                    ping_interval=PING_S,
                    ping_timeout=PONG_S,
                    close_timeout=1,
                    proxy=None,
                )
            )
        except InvalidStatus as error:
            reason = bytes(error.response.body or b"").decode(errors="replace").strip() or str(error)
            if error.response.status_code == 401:
                raise SpecbenchError(
                    f"the cloud at {url} refused the edge: {reason}",
                    "set cloud.token_file to a file with the server's token",
                    ExitCode.RUN,
                ) from error
            raise ChannelLostError(f"{url}: {reason}") from error
        except ssl.SSLCertVerificationError as error:
            raise SpecbenchError(
                f"the certificate of {url} is not accepted: {error.verify_message}",
                "renew it, or let SSL_CERT_FILE name the authority that signed it",
                ExitCode.RUN,
            ) from error
        except (InvalidURI, ValueError) as error:
            raise SpecbenchError(
                f"{url} is not an address: {error}", "write cloud.placement=ws://HOST:PORT", ExitCode.PROFILE
            ) from error
        except (OSError, InvalidHandshake, ConnectionClosed, EOFError) as error:
            raise ChannelLostError(f"{url}: {error or type(error).__name__}") from error

    def send(self, message: bytes) -> None:
        """Write to the socket."""
        try:
            self._socket.send(message)
        except (self._closed, OSError) as error:
            raise ChannelLostError(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The next message."""
        try:
            message = self._socket.recv(timeout_s)
        except self._closed as error:
            raise ChannelLostError(str(error)) from error
        return message if isinstance(message, bytes) else message.encode()

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()
