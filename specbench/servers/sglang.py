"""An SGLang server, by its own interface: `/generate` (its docs/basic_usage/native_api.md)."""

from __future__ import annotations

from specbench.servers.answers import Completion, Question, Token
from specbench.servers.base import HttpServer, ids, number


class SgLang(HttpServer):
    """An SGLang server. It names no texts: what was cached is taken from the cache."""

    kind = "sglang"
    experimental = True
    tops = 50
    speaks_ids = True
    path = "/generate"
    counts = (
        "passes = spec_verify_ct, drafted = spec_draft_token_num (passes x the longest draft), "
        "accepted = spec_accept_token_num (without the bonus token)"
    )

    def look(self) -> None:
        """As of `HttpServer`."""
        info = self.client.asked("/get_model_info")
        if "model_path" not in info:
            raise self.client.error("is no SGLang server", "try --server openai")
        self.root = str(info["model_path"])
        self.model = self.model or self.root
        found = self.client.tried("/get_server_info").document
        self.version = str(found["version"]) if isinstance(found, dict) and "version" in found else None

    def request(self, question: Question) -> dict:
        """As of `HttpServer`."""
        sampling = {"max_new_tokens": question.most, "temperature": question.temperature, "top_p": 1.0}
        sampling |= {"top_k": -1, "repetition_penalty": 1.0, "sampling_seed": question.seed}
        name = "text" if isinstance(question.prompt, str) else "input_ids"
        asked: dict[str, object] = {name: question.as_json, "sampling_params": sampling}
        if question.top:
            asked |= {"return_logprob": True, "top_logprobs_num": question.top, "logprob_start_len": -1}
        return asked

    def take(self, document: dict, said: Completion) -> None:
        """As of `HttpServer`; each event holds all that was said so far."""
        meta, tokens = document.get("meta_info"), ids(document.get("output_ids"))
        if not isinstance(meta, dict) or tokens is None:
            raise self.client.error("answers /generate without output_ids or meta_info")
        reason = meta.get("finish_reason")
        said.text, said.tokens = str(document.get("text", "")), tokens
        said.finish_reason = str(reason.get("type")) if isinstance(reason, dict) else reason
        said.top = tuple(map(_top, meta.get("output_top_logprobs") or ())) or None
        said.prompt_tokens = number(meta, "prompt_tokens")
        said.completion_tokens = number(meta, "completion_tokens")
        said.drafted = number(meta, "spec_draft_token_num")
        said.accepted = number(meta, "spec_accept_token_num")
        said.passes = number(meta, "spec_verify_ct")

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        question = {"model": self.model, "prompt": text, "add_special_tokens": False}
        answer = self.client.tried("/tokenize", question)
        return ids(answer.document.get("tokens")) if isinstance(answer.document, dict) else None


def _top(place: list) -> dict[Token, float]:
    return {int(token): float(value) for value, token, *_ in place or ()}
