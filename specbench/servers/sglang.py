"""An SGLang server, by its own interface: `/generate` (its docs/basic_usage/native_api.md)."""

from __future__ import annotations

from specbench.servers.answers import Completion, Prompt, Token
from specbench.servers.base import HttpServer, Stopwatch, ids, number


class SgLang(HttpServer):
    """An SGLang server."""

    kind = "sglang"
    experimental = True
    tops = 50
    speaks_ids = True
    counts = (
        "passes = spec_verify_ct, drafted = spec_draft_token_num (passes x the longest draft), "
        "accepted = spec_accept_token_num (without the bonus token)"
    )

    def look(self) -> None:
        """As of `Server`."""
        info = self.client.asked("/get_model_info")
        if "model_path" not in info:
            raise self.client.error("is no SGLang server", "try --server openai")
        self.model = self.model or str(info["model_path"])
        found = self.client.tried("/get_server_info").document
        self.version = str(found["version"]) if isinstance(found, dict) and "version" in found else None

    def complete(
        self,
        prompt: Prompt,
        most: int,
        temperature: float = 0.0,
        seed: int = 0,
        top: int = 0,
        fresh: bool = False,
    ) -> Completion:
        """As of `Server`; what was cached is taken from the cache, for the interface knows no other way."""
        watch = Stopwatch()
        question = self._question(prompt, most, temperature, seed)
        if top:
            question |= {"return_logprob": True, "top_logprobs_num": top, "logprob_start_len": -1}
        answer = self.client.asked("/generate", question)
        return self._completion(answer, watch, bool(top))

    def stream(self, prompt: Prompt, most: int) -> Completion:
        """As of `Server`."""
        watch, before = Stopwatch(), 0
        answer: dict = {}
        for answer in self.client.streamed("/generate", self._question(prompt, most) | {"stream": True}):
            said = number(answer.get("meta_info"), "completion_tokens") or 0
            if said > before:
                watch.note(said - before)
                before = said
        return self._completion(answer, watch, False)

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        question = {"model": self.model, "prompt": text, "add_special_tokens": False}
        answer = self.client.tried("/tokenize", question)
        return ids(answer.document.get("tokens")) if isinstance(answer.document, dict) else None

    def _question(self, prompt: Prompt, most: int, temperature: float = 0.0, seed: int = 0) -> dict:
        sampling = {"max_new_tokens": most, "temperature": temperature, "top_p": 1.0, "top_k": -1}
        sampling |= {"repetition_penalty": 1.0, "sampling_seed": seed}
        asked = {"text": prompt} if isinstance(prompt, str) else {"input_ids": list(prompt)}
        return asked | {"sampling_params": sampling}

    def _completion(self, answer: dict, watch: Stopwatch, wants_top: bool) -> Completion:
        meta = answer.get("meta_info")
        tokens = ids(answer.get("output_ids"))
        if not isinstance(meta, dict) or tokens is None:
            raise self.client.error("answers /generate without output_ids or meta_info")
        reason = meta.get("finish_reason")
        return Completion(
            str(answer.get("text", "")),
            str(reason.get("type")) if isinstance(reason, dict) else reason,
            tokens,
            tuple(map(_top, meta.get("output_top_logprobs") or ())) if wants_top else None,
            prompt_tokens=number(meta, "prompt_tokens"),
            completion_tokens=number(meta, "completion_tokens"),
            drafted=number(meta, "spec_draft_token_num"),
            accepted=number(meta, "spec_accept_token_num"),
            passes=number(meta, "spec_verify_ct"),
            total_ms=watch.total_ms,
            parts=tuple(watch.parts),
        )


def _top(place: list) -> dict[Token, float]:
    return {int(token): float(value) for value, token, *_ in place or ()}
