"""Questions to a server that may be busy, broken or none at all: asked again, or one clear error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from specbench.errors import ExitCode, SpecbenchError
from specbench.servers.http import ASIDE, SILENCE_S, Answer, Hints, JsonHttp

TIMES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Client:
    """One server, asked as often as a passing refusal needs.

    Args:
        url: `http://` or `https://`; a path is kept and stands before every other.
        key: its API key, if it has one.
        silence_s: how long the server may say nothing.
        times: how often a question is asked at most, while the server is busy or broken.
        hints: what to do about errors.

    Raises:
        SpecbenchError: the address is none, or there is no such file.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        silence_s: float = SILENCE_S,
        ca_file: Path | None = None,
        insecure: bool = False,
        times: int = TIMES,
        hints: Hints = ASIDE,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise SpecbenchError(f"{url} is no address of a server", "such as http://127.0.0.1:8080")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._path = urlsplit(self.url).path
        tls: dict[str, str] = {}
        if ca_file:
            if not ca_file.is_file():
                raise SpecbenchError(f"there is no file {ca_file}", "pass the authority's certificate in PEM")
            tls["ca_certs"] = str(ca_file)
        elif insecure:
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            tls["cert_reqs"] = "CERT_NONE"
        self._made = url, key, silence_s, ca_file, insecure, times, hints
        self._http = JsonHttp(f"{parts.scheme}://{parts.netloc}", key, silence_s, hints, **tls)
        self._times = times
        self.retries = 0
        self.answers = 0
        """How many answers, or events of streamed ones, have come."""

    def another(self) -> Client:
        """The same, over a connection of its own."""
        return Client(*self._made)

    def tried(self, path: str, question: dict | None = None) -> Answer:
        """What the server says, whatever that is; asked again while it is busy or broken."""
        for attempt in range(self._times):
            answer = self._http.ask(self._path + path, question)
            if not _passes(answer.status) or attempt == self._times - 1:
                return answer
            self._wait(attempt, answer)
        raise AssertionError

    def asked(self, path: str, question: dict | None = None) -> dict:
        """The JSON object that answers a question.

        Raises:
            SpecbenchError: the server refuses, redirects, or answers something else.
        """
        found: dict = self.answered(path, question).document
        return found

    def answered(self, path: str, question: dict | None = None, of: type = dict) -> Answer:
        """The answer to a question, once it is one.

        Args:
            of: what its document must be, an object or a list.

        Raises:
            SpecbenchError: as of `asked`.
        """
        return self._accepted(self.tried(path, question), path, of)

    def streamed(
        self, path: str, question: dict, is_last: Callable[[object], bool] = lambda document: False
    ) -> Iterator[Answer]:
        """The events of a streamed answer.

        Raises:
            SpecbenchError: as of `asked`.
            CloudLostError: it broke off.
        """
        for attempt in range(self._times):
            for answer in self._http.stream(self._path + path, question, is_last):
                if _passes(answer.status) and attempt < self._times - 1:
                    self._wait(attempt, answer)
                    break
                yield self._accepted(answer, path)
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
        time.sleep(pause_s(answer.headers.get("Retry-After", ""), attempt))

    def _accepted(self, answer: Answer, path: str, of: type = dict) -> Answer:
        if answer.status in (401, 403):
            raise self.error(f"wants a login: {answer.reason}", self._http.hints.login)
        if 300 <= answer.status < 400:
            host = urlsplit(answer.headers.get("Location", "")).netloc or "another path"
            raise self.error(f"redirects to {host}", "no other host is asked; pass its address yourself")
        if _passes(answer.status):
            often = f", {self._times} times in a row" if self._times > 1 else ""
            raise self.error(f"answers {answer.reason}{often}")
        if answer.status != 200:
            raise self.error(f"refuses {path}: {answer.reason}")
        found = answer.document
        if isinstance(found, dict) and found.get("error"):
            raise self.error(f"reports an error: {answer.reason.removeprefix('200 OK: ')}")
        if not isinstance(found, of):
            size = f"{len(answer.body):,} bytes that begin {answer.body[:40]!r}" if answer.body else "an event"
            wanted = "object" if of is dict else "list"
            raise self.error(
                f"answers {path} with something that is not a JSON {wanted}: {size}",
                "pass the address of an LLM server, without the path of its pages",
            )
        self.answers += 1
        return answer


def pause_s(retry_after: str, attempt: int) -> float:
    """Seconds to wait before a question is asked again, 30 at most.

    Args:
        retry_after: what the server asks for, in seconds or as a date (RFC 9110, 10.2.3); anything else
            leaves the pause to us.
        attempt: how often it was asked again before.
    """
    asked_s = FIRST_PAUSE_S * 2**attempt
    if retry_after.isascii() and retry_after.isdigit():
        asked_s = float(retry_after)
    elif retry_after:
        with suppress(ValueError, TypeError, OverflowError):  # of what is no date
            until = parsedate_to_datetime(retry_after)
            asked_s = (until.astimezone(timezone.utc) - datetime.now(timezone.utc)).total_seconds()
    return min(max(asked_s, 0.0), LONGEST_PAUSE_S)


def _passes(status: int) -> bool:
    """Whether a refusal may be over in a moment."""
    return status in (408, 425, 429) or (500 <= status < 600 and status not in (501, 505))


def key_of(variable: str | None) -> str | None:
    """The API key that an environment variable holds.

    Raises:
        SpecbenchError: it holds none.
    """
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise SpecbenchError(
            f"the environment variable {variable} is empty or not set", f"export {variable}=KEY"
        )
    return os.environ[variable].strip()
