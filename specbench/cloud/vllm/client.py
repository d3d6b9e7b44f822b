"""A vLLM server: what it says of itself, and completions of token ids in token ids.

The API is OpenAI's with vLLM's extensions (`return_token_ids`, `prompt_logprobs`, `cache_salt`), as of
`vllm/entrypoints/openai/completion/protocol.py`, vLLM 0.32.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from specbench.clock import now_ms
from specbench.engine.finite import NotFiniteError
from specbench.errors import ExitCode, SpecbenchError
from specbench.servers.http import SILENCE_S, Answer, JsonHttp

COMPLETIONS = "/v1/completions"
PINGS = 7
# A server takes what a request leaves out from the model's generation_config.json.
GREEDY = {
    "temperature": 0.0,  # top_p, top_k and min_p are then off
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": True,  # the stop ids of the request are all that ends a text
    "add_special_tokens": False,
    "return_token_ids": True,
}


@dataclass(frozen=True)
class VllmFacts:
    """What a server says of itself.

    Args:
        name: what it calls its model; `root` is what it loaded.
        dtype: what the weights are computed in, where the server tells (only in vLLM's development mode).
        rtt_ms: median round trip of a question that computes nothing.
    """

    name: str
    root: str | None
    max_model_len: int | None
    version: str | None
    dtype: str | None
    rtt_ms: float

    @property
    def identity(self) -> dict:
        """What two comparable runs have alike."""
        found = asdict(self)
        del found["rtt_ms"]
        return found


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Args:
        tokens: the ids that were said.
        top_ids: the target's own choice in the place of each prompt id from the second on; empty if not asked.
        log_probabilities: of the prompt ids themselves, likewise.
    """

    tokens: tuple[int, ...]
    top_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    bytes_up: int
    bytes_down: int


class VllmServer:
    """One vLLM server, over a connection of its own.

    Args:
        url: where it listens.
        token: its API key, if it has one.
        silence_s: as of `JsonHttp`.
    """

    def __init__(self, url: str, token: str | None = None, silence_s: float = SILENCE_S) -> None:
        self._http = JsonHttp(url, token, silence_s)
        self.url = url
        self.model = ""
        """What the server calls its model; `look` finds it."""
        self.answers = 0
        """How many completions, or parts of a streamed one, the server has sent."""

    def look(self) -> VllmFacts:
        """Ask the server who it is.

        Raises:
            SpecbenchError: nobody is there, it refuses the key, or it is no vLLM server.
        """
        entry = self._served(self._accepted(self._http.ask("/v1/models")))
        self.model = entry["id"]
        times = []
        for _ in range(PINGS):
            started = now_ms()
            self._http.ask("/v1/models")
            times.append(now_ms() - started)
        return VllmFacts(
            self.model,
            entry.get("root"),
            entry.get("max_model_len"),
            self._optional("/version", "version"),
            self._optional("/server_info?config_format=json", "vllm_config", "model_config", "dtype"),
            statistics.median(times),
        )

    def tokenized(self, text: str) -> list[int] | None:
        """The server's ids of a text; `None` where it does not say (a gateway may let only /v1 through)."""
        question = {"model": self.model, "prompt": text, "add_special_tokens": False}
        answer = self._http.ask("/tokenize", question)
        found = answer.document.get("tokens") if isinstance(answer.document, dict) else None
        return found if answer.status == 200 and _are_ids(found) else None

    def complete(
        self, prompt: Sequence[int], salt: str, stop_ids: Sequence[int] = (), verifies: bool = False
    ) -> Completion:
        """One token behind a prompt; with `verifies`, what the target would have said at each place of it too.

        The server reads the whole prompt anew where it `verifies`: it takes nothing from its prefix cache then
        (`skip_reading_prefix_cache` in `vllm/sampling_params.py`).

        Raises:
            SpecbenchError: the server refuses, or answers something else.
        """
        question = self._question(prompt, 1, salt, stop_ids)
        if verifies:
            question["prompt_logprobs"] = 1
        answer = self._http.ask(COMPLETIONS, question)
        choice = self._choice(answer)
        tokens = self._ids(choice)
        if choice.get("prompt_token_ids") != list(prompt):
            raise self._strange("did not read the prompt's token ids as they are")
        found = self._prompt_choices(choice, prompt) if verifies else []
        return Completion(
            tuple(tokens),
            tuple(top for top, _ in found),
            tuple(own for _, own in found),
            answer.bytes_up,
            answer.bytes_down,
        )

    def stream(
        self, prompt: Sequence[int], budget: int, salt: str, stop_ids: Sequence[int]
    ) -> Iterator[Completion]:
        """Up to `budget` tokens behind a prompt, as the server sends them.

        Raises:
            SpecbenchError: as of `complete`.
            CloudLostError: the stream broke off.
        """
        question = self._question(prompt, budget, salt, stop_ids) | {"stream": True}
        for answer in self._http.stream(COMPLETIONS, question):
            choice = self._choice(answer)
            if tokens := self._ids(choice):
                yield Completion(tuple(tokens), (), (), answer.bytes_up, answer.bytes_down)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def _question(self, prompt: Sequence[int], budget: int, salt: str, stop_ids: Sequence[int]) -> dict:
        return {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": budget,
            "stop_token_ids": sorted(stop_ids),
            # A text of its own for each method: none profits from what another had the server read.
            "cache_salt": salt,
            **GREEDY,
        }

    def _prompt_choices(self, choice: dict, prompt: Sequence[int]) -> list[tuple[int, float]]:
        """By prompt id from the second on: the target's own choice there, and the id's log-probability.

        Each place lists the prompt's id and the most likely one, once where they are the same; ranks are not
        looked at, for they count what is equally likely in low precision.
        """
        places = choice.get("prompt_logprobs")
        if not isinstance(places, list) or len(places) != len(prompt):
            raise self._strange("sends no prompt_logprobs", "a verifier needs them; see docs/how-to/vllm.md")
        found = []
        for token, place in zip(prompt[1:], places[1:], strict=True):
            try:
                log_probability = float(place[str(token)]["logprob"])
                (top,) = [int(key) for key in place if key != str(token)] or [token]
            except (KeyError, TypeError, ValueError) as error:
                raise self._strange("sends prompt_logprobs of another form than vLLM's") from error
            if not math.isfinite(log_probability):
                raise NotFiniteError("cloud", str(log_probability))
            found.append((top, log_probability))
        return found

    def _choice(self, answer: Answer) -> dict:
        document = self._accepted(answer)
        choices = document.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            said = f": {answer.reason}" if "error" in document else ""
            raise self._strange(f"answers a completion with something else{said}")
        self.answers += 1
        return choices[0]

    def _ids(self, choice: dict) -> list[int]:
        tokens = choice.get("token_ids")
        if not _are_ids(tokens):
            raise self._strange("sends no token ids", "return_token_ids came with vLLM 0.10.2")
        return tokens

    def _accepted(self, answer: Answer) -> dict:
        """The document of an answer that is one.

        Raises:
            SpecbenchError: it is a refusal, or not from a vLLM server.
        """
        if answer.status in (401, 403):
            raise SpecbenchError(
                f"the vLLM server at {self.url} refused the edge: {answer.reason}",
                "set cloud.token_file to a file with the server's API key",
                ExitCode.RUN,
            )
        if answer.status != 200 and self.model:
            hint = (
                "check whether another model was loaded there since" if answer.status == 404 else "see its log"
            )
            raise SpecbenchError(
                f"the vLLM server at {self.url} refused the request: {answer.reason}", hint, ExitCode.RUN
            )
        if answer.status != 200 or not isinstance(answer.document, dict):
            raise self._no_vllm(answer.reason if answer.status != 200 else "its answer is not a JSON object")
        return answer.document

    def _served(self, models: dict) -> dict:
        """The entry of the one model that a server has; adapters of it name their parent."""
        listed = models.get("data")
        for entry in listed if isinstance(listed, list) else []:
            if not isinstance(entry, dict) or entry.get("owned_by") != "vllm" or entry.get("parent"):
                continue
            if isinstance(entry.get("id"), str):
                return entry
        raise self._no_vllm("/v1/models names no model that is owned_by vllm")

    def _no_vllm(self, reason: str) -> SpecbenchError:
        return SpecbenchError(
            f"{self.url} is not a vLLM server: {reason}",
            "set cloud.placement to its address, without a path",
            ExitCode.RUN,
        )

    def _strange(self, what: str, hint: str | None = None) -> SpecbenchError:
        return SpecbenchError(f"the vLLM server at {self.url} {what}", hint or "see its log", ExitCode.RUN)

    def _optional(self, path: str, *keys: str) -> str | None:
        """One word of what a server need not tell."""
        found = self._http.ask(path).document
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, str) else None


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(token) is int for token in value)
