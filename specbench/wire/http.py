"""Questions in JSON over one kept HTTP connection, whole answers and streams of events."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from specbench.errors import CloudLostError, ExitCode, SpecbenchError

SILENCE_S = 120.0  # a whole prefill may take long, but not for ever
DONE = b"[DONE]"


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the document (`None` where it is no JSON), and the bytes of both bodies."""

    status: int
    document: object
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def reason(self) -> str:
        """What the server says of its own refusal."""
        document = self.document if isinstance(self.document, dict) else {}
        error = document.get("error", document.get("detail", document.get("message")))
        said = error.get("message") if isinstance(error, dict) else error
        return f"{self.status} {http.client.responses.get(self.status, '')}".strip() + (
            f": {str(said).strip().splitlines()[0]}" if said else ""
        )


class JsonHttp:
    """One connection, opened when first used and again when the server has closed it meanwhile.

    Args:
        url: `http://host:port` or `https://host:port`, without a path.
        token: sent as a bearer token.
        silence_s: how long the server may say nothing at all before it counts as gone.
    """

    def __init__(self, url: str, token: str | None = None, silence_s: float = SILENCE_S) -> None:
        self.url = url
        self._silence_s = silence_s
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None
        self._was_there = False

    def ask(self, path: str, question: dict | None = None) -> Answer:
        """GET, or POST where there is a question; any status is an answer.

        Raises:
            SpecbenchError: nobody is there.
            CloudLostError: somebody was.
        """
        body = b"" if question is None else json.dumps(question).encode()
        try:
            response = self._response(path, question is not None, body)
            read = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        return Answer(response.status, _parsed(read), len(body), len(read))

    def stream(self, path: str, question: dict) -> Iterator[Answer]:
        """The events of a stream as they come; one answer with another status where it is refused.

        A reader that stops early closes the connection, by which the server learns of it.

        Raises:
            SpecbenchError, CloudLostError: as of `ask`; the stream broke off before its end.
        """
        body = json.dumps(question).encode()
        is_over = False
        try:
            response = self._response(path, True, body)
            if response.status != 200:
                read = response.read()
                is_over = True
                yield Answer(response.status, _parsed(read), len(body), len(read))
                return
            bytes_up, bytes_down = len(body), 0
            while line := response.readline():
                bytes_down += len(line)
                if not line.startswith(b"data:"):
                    continue
                event = line[len(b"data:") :].strip()
                if event == DONE:
                    response.read()
                    is_over = True
                    return
                yield Answer(200, _parsed(event), bytes_up, bytes_down)
                bytes_up = bytes_down = 0
            raise http.client.IncompleteRead(b"")
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            if not is_over:
                self.close()

    def close(self) -> None:
        """Hang up."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _response(self, path: str, posts: bool, body: bytes) -> http.client.HTTPResponse:
        """Send a question. One that met a connection that idled too long is sent again, on a new one."""
        was_open = self._connection is not None
        try:
            return self._sent(path, posts, body)
        except (ConnectionError, http.client.BadStatusLine):
            if not was_open:
                raise
            self.close()
            return self._sent(path, posts, body)

    def _sent(self, path: str, posts: bool, body: bytes) -> http.client.HTTPResponse:
        if self._connection is None:
            address = urlsplit(self.url)
            secure = address.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(address.hostname or "", address.port, timeout=self._silence_s)
            self._connection.connect()
            self._was_there = True
        self._connection.request("POST" if posts else "GET", path, body or None, self._headers)
        return self._connection.getresponse()

    def _lost(self, error: Exception) -> SpecbenchError:
        self.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            return SpecbenchError(
                f"the certificate of {self.url} is not accepted: {error.verify_message}",
                "renew it, or let SSL_CERT_FILE name the authority that signed it",
                ExitCode.RUN,
            )
        reason = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"it said nothing for {self._silence_s:g} s"
        elif isinstance(error, http.client.IncompleteRead):
            reason = "its answer broke off"
        if self._was_there:
            return CloudLostError(
                f"the server at {self.url} is lost: {reason}",
                "what a run finished is kept; 'specbench run --resume RUN' goes on once it is back",
                ExitCode.RUN,
            )
        return SpecbenchError(
            f"there is no vLLM server at {self.url}: {reason}",
            "start one there: vllm serve MODEL --port N (docs/vllm.md)",
            ExitCode.RUN,
        )


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
