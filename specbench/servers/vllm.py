"""A vLLM server: OpenAI's completions with token ids (`vllm/entrypoints/openai/completion/protocol.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from specbench.engine.finite import NotFiniteError
from specbench.servers.answers import Completion, Judged, Question, Token
from specbench.servers.base import ids
from specbench.servers.openai import OpenAi

METRICS = {"drafts": "passes", "draft_tokens": "drafted", "accepted_tokens": "accepted"}
# What a request leaves out comes from the model's generation_config.json.
PLAIN = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


class Vllm(OpenAi):
    """A vLLM server."""

    kind = "vllm"
    tops = 20
    speaks_ids = True
    verifies = obeys_stops = True
    stream_top = 0
    counts = (
        "from the counters of /metrics, before and after: drafted = num_draft_tokens, "
        "accepted = num_accepted_tokens (without the bonus token), passes = num_drafts (passes without a draft "
        "are not counted)"
    )
    streaming: ClassVar[dict[str, object]] = {"stream": True}

    def learn(self) -> None:
        """Its version; and its dtype, which it tells in development mode."""
        self.version = self._word("/version", "version")
        self.dtype = self._word("/server_info?config_format=json", "vllm_config", "model_config", "dtype")

    def request(self, question: Question) -> dict:
        """As of `HttpServer`."""
        asked = super().request(question) | {"return_token_ids": True, "add_special_tokens": False, **PLAIN}
        if question.temperature:
            asked |= {"top_k": -1, "min_p": 0.0}
        if question.salt is not None:
            asked["cache_salt"] = question.salt
        if question.stop_ids is not None:
            asked |= {"ignore_eos": True, "stop_token_ids": sorted(question.stop_ids)}
        return asked | ({"return_tokens_as_token_ids": True} if question.top else {})

    def take(self, document: dict, said: Completion) -> None:
        """As of `OpenAi`; the prompt's ids come back with the first tokens."""
        super().take(document, said)
        read = ids((document.get("choices") or [{}])[0].get("prompt_token_ids"))
        said.prompt_tokens = len(read) if read else said.prompt_tokens

    def tokens_of(self, choice: dict) -> tuple[Token, ...]:
        """As of `OpenAi`."""
        found = ids(choice.get("token_ids"))
        if found is None:
            raise self.client.error("sends no token ids", "return_token_ids came with vLLM 0.10.2")
        return found

    def top_of(self, choice: dict) -> tuple[dict[Token, float], ...] | None:
        """As of `OpenAi`; tokens are told as `token_id:N`."""
        found = super().top_of(choice)
        return found and tuple(
            {int(str(token).removeprefix("token_id:")): value for token, value in place.items()}
            for place in found
        )

    def judged(self, question: Question, drafted: Sequence[int]) -> Judged:
        """As of `HttpServer`: one request for the log-probabilities of all that is sent.

        The server reads the whole prompt anew: it takes nothing from its prefix cache then
        (`skip_reading_prefix_cache` in `vllm/sampling_params.py`).
        """
        asked = question.behind(drafted)
        answer = self.client.answered(self.path, self.request(asked) | {"prompt_logprobs": 1})
        said = Completion()
        self.take(answer.document, said)
        prompt, choice = asked.prompt, answer.document["choices"][0]
        assert isinstance(prompt, tuple), "drafts are verified behind token ids"
        if choice.get("prompt_token_ids") != list(prompt):
            raise self.client.error("did not read the prompt's token ids as they are")
        found = self._prompt_choices(choice, prompt)[-len(drafted) :]
        own = (*(top for top, _ in found), *map(int, said.tokens or ()))
        told = tuple(value for _, value in found)
        return Judged(own, told, len(prompt), answer.bytes_up, answer.bytes_down)

    def log_probabilities(self, question: Question, pair: tuple[int, int]) -> tuple[float, float] | None:
        """As of `HttpServer`; every token is told."""
        left, right = (self.judged(question, [token]).log_probabilities[-1] for token in pair)
        return left, right

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """As of `Server`; a gateway may let only /v1 through."""
        return self._tokens({"model": self.model, "prompt": text, "add_special_tokens": False})

    def templated(self, question: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        messages = [{"role": "user", "content": question}]
        return self._tokens({"model": self.model, "messages": messages, "add_generation_prompt": True})

    def counters(self) -> dict[str, int]:
        """As of `Server`, over all requests."""
        found: dict[str, int] = {}
        for line in self.client.tried("/metrics").body.decode("utf-8", "replace").splitlines():
            for name, ours in METRICS.items():
                if line.startswith((f"vllm:spec_decode_num_{name}_total", f"vllm:spec_decode_num_{name}{{")):
                    found[ours] = found.get(ours, 0) + int(float(line.split()[-1]))
        return found

    def _tokens(self, question: dict) -> tuple[int, ...] | None:
        answer = self.client.tried("/tokenize", question)
        return ids(answer.document.get("tokens")) if isinstance(answer.document, dict) else None

    def _word(self, path: str, *keys: str) -> str | None:
        """One word of what a server need not tell."""
        found = self.client.tried(path).document
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, str) else None

    def _prompt_choices(self, choice: dict, prompt: Sequence[int]) -> list[tuple[int, float]]:
        """By prompt id from the second on: the target's own choice there, and the id's log-probability.

        Each place lists the prompt's id and the most likely one, once where they are the same; ranks are not
        looked at, for they count what is equally likely in low precision.
        """
        places = choice.get("prompt_logprobs")
        if not isinstance(places, list) or len(places) != len(prompt):
            raise self.client.error(
                "sends no prompt_logprobs", "a verifier needs them; see docs/how-to/vllm.md"
            )
        found = []
        for token, place in zip(prompt[1:], places[1:], strict=True):
            try:
                log_probability = float(place[str(token)]["logprob"])
                (top,) = [int(key) for key in place if key != str(token)] or [token]
            except (KeyError, TypeError, ValueError) as error:
                raise self.client.error("sends prompt_logprobs of another form than vLLM's") from error
            if not math.isfinite(log_probability):
                raise NotFiniteError("cloud", str(log_probability))
            found.append((top, log_probability))
        return found
