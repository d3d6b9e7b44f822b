"""Questions in JSON over one kept HTTP connection, whole answers and streams of events."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import IncompleteRead
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from specbench.errors import CloudLostError, ExitCode, SpecbenchError

SILENCE_S = 120.0  # a whole prefill may take long, but not for ever
MOST_BYTES = 64 << 20  # of one answer, or of one event
DONE = b"[DONE]"
PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the document (`None` where it is no JSON), and the bytes of both bodies.

    Args:
        body: as it came, of whole answers.
        headers: `Location` and `Retry-After` where the server sent them.
    """

    status: int
    document: Any
    bytes_up: int = 0
    bytes_down: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """What the server says of its own refusal."""
        document = self.document if isinstance(self.document, dict) else {}
        error = document.get("error", document.get("detail", document.get("message")))
        said = error.get("message") if isinstance(error, dict) else error
        return f"{self.status} {PHRASES.get(self.status, '')}".strip() + (
            f": {str(said).strip().splitlines()[0]}" if said else ""
        )


@dataclass(frozen=True)
class Hints:
    """What to do about a server, in the words of `specbench verify`; a run has its own.

    Args:
        absent: where nobody is there; `lost` where somebody was.
        login: where it wants a key.
    """

    absent: str = "check the address, and that the server listens there"
    lost: str = "what was found so far is kept; see the server's log"
    login: str = "name the environment variable that holds its API key: --api-key-env NAME"
    certificate: str = "name the authority that signed it with --ca-file, or pass --insecure"


ASIDE = Hints()


class JsonHttp:
    """One connection, opened when first used and again when the server has closed it meanwhile.

    Args:
        url: `http://host:port` or `https://host:port`, without a path.
        token: sent as a bearer token.
        silence_s: how long the server may say nothing at all before it counts as gone.
        tls: arguments of urllib3's pools that say whose certificates are accepted.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        silence_s: float = SILENCE_S,
        hints: Hints = ASIDE,
        **tls: Any,
    ) -> None:
        self.url, self.hints = url, hints
        self._silence_s = silence_s
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pools = urllib3.PoolManager(timeout=silence_s, retries=False, **tls)
        self._was_there = False

    def ask(self, path: str, question: dict | None = None) -> Answer:
        """GET, or POST where there is a question; any status is an answer.

        Raises:
            SpecbenchError: nobody is there.
            CloudLostError: somebody was.
        """
        method, body = ("GET", b"") if question is None else ("POST", json.dumps(question).encode())
        try:
            return _whole(self._response(method, path, body or None), body)
        except HTTPError as error:
            raise self._lost(error) from error

    def stream(
        self, path: str, question: dict, is_last: Callable[[object], bool] = lambda document: False
    ) -> Iterator[Answer]:
        """The events of a stream as they come; one answer with another status where it is refused.

        A reader that stops early closes the connection, by which the server learns of it.

        Args:
            is_last: whether a document ends the stream; without one, `[DONE]` does.

        Raises:
            SpecbenchError, CloudLostError: as of `ask`; the stream broke off before its end.
        """
        body = json.dumps(question).encode()
        response = None
        try:
            response = self._response("POST", path, body)
            if response.status != 200:
                yield _whole(response, body)
                return
            bytes_up, bytes_down = len(body), 0
            for line in _lines(response):
                bytes_down += len(line)
                if not line.startswith(b"data:"):
                    continue
                event = line[len(b"data:") :].strip()
                if event == DONE:
                    response.drain_conn()  # read to its end, a connection serves the next question
                    return
                document = _parsed(event)
                yield Answer(200, document, bytes_up, bytes_down)
                if is_last(document):
                    response.drain_conn()
                    return
                bytes_up = bytes_down = 0
            raise ProtocolError from IncompleteRead(b"")
        except HTTPError as error:
            raise self._lost(error) from error
        finally:
            if response is not None:
                response.close()

    def close(self) -> None:
        """Hang up."""
        self._pools.clear()

    def _response(self, method: str, path: str, body: bytes | None) -> urllib3.BaseHTTPResponse:
        """Send a question. One that met a connection that idled too long is sent again, on a new one."""
        pool = self._pools.connection_from_url(self.url)
        opened, is_again = pool.num_connections, False
        while True:
            try:
                response = pool.urlopen(
                    method, path, body, self._headers, redirect=False, preload_content=False
                )
            except ProtocolError:
                if is_again or pool.num_connections > opened:
                    raise
                is_again = True
            else:
                self._was_there = True
                return response

    def _lost(self, error: HTTPError) -> SpecbenchError:
        cause = _root(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SpecbenchError(
                f"the certificate of {self.url} is not accepted: {cause.verify_message}",
                self.hints.certificate,
                ExitCode.RUN,
            )
        reason = str(cause) or type(cause).__name__
        if isinstance(cause, TimeoutError):
            reason = f"it said nothing for {self._silence_s:g} s"
        elif isinstance(cause, IncompleteRead):
            reason = "its answer broke off"
        if self._was_there or isinstance(error, (ProtocolError, ReadTimeoutError)):
            return CloudLostError(
                f"lost the server at {self.url}: {reason}",
                self.hints.lost,
                ExitCode.RUN,
            )
        return SpecbenchError(
            f"cannot connect to a server at {self.url}: {reason}", self.hints.absent, ExitCode.RUN
        )


def _whole(response: urllib3.BaseHTTPResponse, body: bytes) -> Answer:
    read = bytearray()
    for part in response.stream(decode_content=False):
        read += part
        if len(read) > MOST_BYTES:
            response.close()
            raise ProtocolError(f"its answer is longer than {MOST_BYTES >> 20} MiB")
    named = {name: response.headers[name] for name in ("Location", "Retry-After") if name in response.headers}
    return Answer(response.status, _parsed(bytes(read)), len(body), len(read), bytes(read), named)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The lines of a body, each as soon as it is here."""
    rest = b""
    while part := response.read1(decode_content=False):
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MOST_BYTES:
            raise ProtocolError(f"an event of its answer is longer than {MOST_BYTES >> 20} MiB")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _root(error: BaseException) -> BaseException:
    """What urllib3 wrapped."""
    while not isinstance(error, IncompleteRead) and (inner := error.__cause__ or error.__context__):
        error = inner
    return error


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
