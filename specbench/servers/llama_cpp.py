"""llama.cpp's `llama-server`, by its own interface (tools/server/README.md).

`timings_per_token` sends with each token what was drafted and accepted so far, and the time of the last pass:
tokens of one pass have it in common. So passes are counted exactly.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import ClassVar

from specbench.servers.answers import Completion, Judged, Part, Question, Token
from specbench.servers.base import HttpServer, ids, number

REASONS = {"eos": "stop", "word": "stop", "limit": "length"}
# What a request leaves out is taken from the server's start; these turn every sampler off but temperature.
PLAIN = {"samplers": ["temperature"], "repeat_penalty": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


class LlamaCpp(HttpServer):
    """A `llama-server`."""

    kind = "llama.cpp"
    tops = 100
    speaks_ids = True
    verifies = True
    counts = (
        "drafted = draft_n, accepted = draft_n_accepted (without the bonus token; also behind a stop token), "
        "passes from timings_per_token"
    )
    path = "/completion"
    streaming: ClassVar[dict[str, object]] = {"stream": True, "timings_per_token": True}
    _salt: str | None = None

    def look(self) -> None:
        """As of `HttpServer`."""
        props = self.client.asked("/props")
        settings = props.get("default_generation_settings")
        if "build_info" not in props and settings is None:
            raise self.client.error("is no llama-server: its /props name no build", "try --server openai")
        self.version = props.get("build_info")
        self.root = props.get("model_path")
        self.model = self.model or str(props.get("model_alias") or self.root or "")
        self.context_length = number(settings, "n_ctx")

    def request(self, question: Question) -> dict:
        """As of `HttpServer`.

        It keeps no names of texts: the first question under a salt takes nothing from the cache.
        """
        asked = {"prompt": question.as_json, "n_predict": question.most, "return_tokens": True, **PLAIN}
        asked |= {"temperature": question.temperature, "seed": question.seed}
        if question.top:
            asked |= {"n_probs": question.top, "post_sampling_probs": False}
        if question.salt != self._salt and question.salt is not None:
            self._salt = question.salt
            asked["cache_prompt"] = False
        return asked

    def take(self, document: dict, said: Completion) -> None:
        """As of `HttpServer`."""
        timings = document.get("timings")
        found, text = self._told(document), str(document.get("content", ""))
        count = number(document, "tokens_predicted")
        said.add(text, self._with_left_out(text, found, (count or 0) - len(said.tokens or ())))
        said.accepted = number(timings, "draft_n_accepted")
        if found and isinstance(timings, dict):
            said.clock_ms = timings.get("predicted_ms")
        if not self.is_last(document):
            return
        stop = str(document.get("stop_type", ""))
        said.finish_reason = REASONS.get(stop, stop or "unknown")
        tops = tuple(_top(place) for place in document.get("completion_probabilities") or ())
        said.top = tops or None
        said.prompt_tokens, said.completion_tokens = number(document, "tokens_evaluated"), count
        said.drafted = number(timings, "draft_n")
        said.draft_limit = number(document.get("generation_settings"), "speculative.n_max")

    def parts(self, question: Question, said: Completion) -> Generator[Part, None, None]:
        """As of `HttpServer`."""
        yield from super().parts(question, said)
        missing = 0 if said.tokens is None else (said.completion_tokens or 0) - len(said.tokens)
        if said.tokens is not None and missing > 0:  # the answer ends inside a character, which is not sent
            rest = self.complete(question.behind(said.tokens, missing)).tokens
            said.add("", rest)
            said.parts.append(Part(said.total_ms, "", rest, said.clock_ms, said.accepted))
            yield said.parts[-1]
        clocks = dict.fromkeys(part.clock_ms for part in said.parts)
        said.passes = len(clocks) - 1 if said.drafted is not None and None not in clocks else None

    def judged(self, question: Question, drafted: Sequence[int]) -> Judged:
        """As of `HttpServer`: one request for one token behind each beginning of the draft.

        A completion tells nothing of its prompt's own tokens. The server reads these prompts in one pass where
        it has a slot for each (`--parallel`), one after the other where it has fewer; what a slot has read it
        does not read again.
        """
        prompts = [question.behind(drafted[:count]).as_json for count in range(len(drafted) + 1)]
        answer = self.client.answered(self.path, self.request(question) | {"prompt": prompts}, list)
        found = [each for each in answer.document if isinstance(each, dict)]
        told = [self._told(each) for each in sorted(found, key=lambda each: number(each, "index") or 0)]
        if len(told) != len(prompts) or not all(told):
            raise self.client.error(f"sends {len(told)} answers to {len(prompts)} prompts")
        read = sum(number(each.get("timings"), "prompt_n") or 0 for each in found)
        return Judged(tuple(each[0] for each in told), (), read, answer.bytes_up, answer.bytes_down)

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        return ids(self.client.asked("/tokenize", {"content": text, "add_special": False}).get("tokens"))

    def templated(self, question: str) -> tuple[int, ...] | None:
        """As of `Server`."""
        message = {"messages": [{"role": "user", "content": question}]}
        answer = self.client.tried("/apply-template", message)
        if answer.status != 200 or not isinstance(answer.document, dict):
            return None
        asked = {"content": answer.document.get("prompt", ""), "add_special": True, "parse_special": True}
        return ids(self.client.asked("/tokenize", asked).get("tokens"))

    @staticmethod
    def is_last(document: object) -> bool:
        """As of `HttpServer`."""
        return isinstance(document, dict) and document.get("stop") is True

    def _told(self, document: dict) -> tuple[int, ...]:
        found = ids(document.get("tokens", []))
        if found is None:
            raise self.client.error("sends no token ids", "return_tokens came with llama.cpp b4336")
        return found

    def _with_left_out(self, text: str, found: tuple[int, ...], count: int) -> tuple[int, ...] | None:
        """Ids of an event that stands for `count` tokens; `None` where they cannot be known.

        A stream has no event for a token that ends inside a character. The next one brings its text.
        """
        if not found or count <= len(found):
            return found
        own = self.tokenized(text)
        return own if own and len(own) == count and own[-len(found) :] == found else None


def _top(place: dict) -> dict[Token, float]:
    entries: Iterable[dict] = [*(place.get("top_logprobs") or ()), place]
    return {int(each["id"]): float(each["logprob"]) for each in entries if "id" in each and "logprob" in each}
