"""A vLLM server: OpenAI's completions with token ids (`vllm/entrypoints/openai/completion/protocol.py`)."""

from __future__ import annotations

import secrets

from specbench.servers.answers import Prompt, Token
from specbench.servers.base import ids
from specbench.servers.openai import OpenAi

METRICS = {"drafts": "passes", "draft_tokens": "drafted", "accepted_tokens": "accepted"}


class Vllm(OpenAi):
    """A vLLM server."""

    kind = "vllm"
    tops = 20
    speaks_ids = True
    stream_top = 0
    experimental = True
    counts = (
        "from the counters of /metrics, before and after: drafted = num_draft_tokens, "
        "accepted = num_accepted_tokens (without the bonus token), passes = num_drafts"
    )

    def learn(self) -> None:
        """Its version, and whether token ids come."""
        found = self.client.tried("/version").document
        self.version = found.get("version") if isinstance(found, dict) else None
        if self.complete("Hello", 1).tokens is None:
            raise self.client.error("sends no token ids", "return_token_ids came with vLLM 0.10.2")

    def question(
        self, prompt: Prompt, most: int, temperature: float, seed: int, top: int, fresh: bool = False
    ) -> dict:
        """As of `OpenAi`; what is left out would come from the model's generation_config.json."""
        asked = super().question(prompt, most, temperature, seed, top)
        asked |= {"return_token_ids": True, "add_special_tokens": False, "repetition_penalty": 1.0}
        asked |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "top_k": -1, "min_p": 0.0}
        if fresh:
            asked["cache_salt"] = secrets.token_hex(8)
        return asked | ({"return_tokens_as_token_ids": True} if top else {})

    def tokens_of(self, choice: dict) -> tuple[Token, ...] | None:
        """As of `OpenAi`."""
        return ids(choice.get("token_ids"))

    def top_of(self, choice: dict) -> tuple[dict[Token, float], ...] | None:
        """As of `OpenAi`; tokens are told as `token_id:N`."""
        found = super().top_of(choice)
        return found and tuple(
            {int(str(token).removeprefix("token_id:")): value for token, value in place.items()}
            for place in found
        )

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        return self._tokens({"model": self.model, "prompt": text, "add_special_tokens": False})

    def templated(self, question: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        messages = [{"role": "user", "content": question}]
        return self._tokens({"model": self.model, "messages": messages, "add_generation_prompt": True})

    def counters(self) -> dict[str, int]:
        """What it has drafted and accepted since its start, over all requests; empty where it does not say."""
        found: dict[str, int] = {}
        for line in self.client.tried("/metrics").body.decode("utf-8", "replace").splitlines():
            for name, ours in METRICS.items():
                if line.startswith((f"vllm:spec_decode_num_{name}_total", f"vllm:spec_decode_num_{name}{{")):
                    found[ours] = found.get(ours, 0) + int(float(line.split()[-1]))
        return found

    def _tokens(self, question: dict) -> tuple[int, ...] | None:
        answer = self.client.tried("/tokenize", question)
        return ids(answer.document.get("tokens")) if isinstance(answer.document, dict) else None
