"""Questions to a server that may be busy, broken or none at all: asked again, or one clear error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from specbench.errors import ExitCode, SpecbenchError
from specbench.servers.http import Answer, JsonHttp

TIMES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class _Http(JsonHttp):
    kind = "server"
    absent_hint = "check the address, and that the server listens there"
    lost_hint = "what was found so far is kept; see the server's log"
    certificate_hint = "name the authority that signed it with --ca-file, or pass --insecure"


class Client:
    """One server, asked as often as a passing refusal needs.

    Args:
        url: `http://` or `https://`; a path is kept and stands before every other.
        api_key_env: environment variable with the API key.
        silence_s: how long the server may say nothing.

    Raises:
        SpecbenchError: the address is none, or there is no such variable or file.
    """

    def __init__(
        self,
        url: str,
        api_key_env: str | None = None,
        silence_s: float = 120.0,
        ca_file: Path | None = None,
        insecure: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise SpecbenchError(f"{url} is no address of a server", "such as http://127.0.0.1:8080")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._path = urlsplit(self.url).path
        tls: dict[str, object] = {}
        if ca_file:
            if not ca_file.is_file():
                raise SpecbenchError(f"there is no file {ca_file}", "pass the authority's certificate in PEM")
            tls["ca_certs"] = str(ca_file)
        elif insecure:
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            tls["cert_reqs"] = "CERT_NONE"
        self._made = url, api_key_env, silence_s, ca_file, insecure, pause
        self._http = _Http(f"{parts.scheme}://{parts.netloc}", _key(api_key_env), silence_s, **tls)
        self._pause = pause
        self.retries = 0

    def another(self) -> Client:
        """The same, over a connection of its own."""
        return Client(*self._made)

    def tried(self, path: str, question: dict | None = None) -> Answer:
        """What the server says, whatever that is; asked again while it is busy or broken."""
        for attempt in range(TIMES):
            answer = self._http.ask(self._path + path, question)
            if not _passes(answer.status) or attempt == TIMES - 1:
                return answer
            self._wait(attempt, answer)
        raise AssertionError

    def asked(self, path: str, question: dict | None = None) -> dict:
        """The JSON object that answers a question.

        Raises:
            SpecbenchError: the server refuses, redirects, or answers something else.
        """
        return self._document(self.tried(path, question), path)

    def streamed(
        self, path: str, question: dict, is_last: Callable[[object], bool] = lambda document: False
    ) -> Iterator[dict]:
        """The events of a streamed answer.

        Raises:
            SpecbenchError: as of `asked`.
            CloudLostError: it broke off.
        """
        for attempt in range(TIMES):
            for answer in self._http.stream(self._path + path, question, is_last):
                if _passes(answer.status) and attempt < TIMES - 1:
                    self._wait(attempt, answer)
                    break
                yield self._document(answer, path)
            else:
                return

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def error(self, what: str, hint: str | None = None) -> SpecbenchError:
        """That this server does something that cannot be gone on with."""
        return SpecbenchError(f"the server at {self.url} {what}", hint or "see its log", ExitCode.RUN)

    def _wait(self, attempt: int, answer: Answer) -> None:
        self.retries += 1
        asked_for = answer.headers.get("Retry-After", "")
        pause_s = float(asked_for) if asked_for.isdigit() else FIRST_PAUSE_S * 2**attempt
        self._pause(min(pause_s, LONGEST_PAUSE_S))

    def _document(self, answer: Answer, path: str) -> dict:
        if answer.status in (401, 403):
            raise self.error(
                f"wants a login: {answer.reason}",
                "name the environment variable that holds its API key: --api-key-env NAME",
            )
        if 300 <= answer.status < 400:
            host = urlsplit(answer.headers.get("Location", "")).netloc or "another path"
            raise self.error(f"redirects to {host}", "no other host is asked; pass its address yourself")
        if _passes(answer.status):
            raise self.error(f"answers {answer.reason}, {TIMES} times in a row")
        if answer.status != 200:
            raise self.error(f"refuses {path}: {answer.reason}", "see its log, or name its kind: --server KIND")
        if not isinstance(answer.document, dict):
            size = f"{len(answer.body):,} bytes that begin {answer.body[:40]!r}" if answer.body else "an event"
            raise self.error(
                f"answers {path} with something that is not a JSON object: {size}",
                "pass the address of an LLM server, without the path of its pages",
            )
        if answer.document.get("error"):
            raise self.error(f"reports an error: {answer.reason.removeprefix('200 OK: ')}")
        return answer.document


def _passes(status: int) -> bool:
    """Whether a refusal may be over in a moment."""
    return status in (408, 425, 429) or (500 <= status < 600 and status not in (501, 505))


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise SpecbenchError(
            f"the environment variable {variable} is empty or not set", f"export {variable}=KEY"
        )
    return os.environ[variable].strip()
