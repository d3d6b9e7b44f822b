"""llama.cpp's `llama-server`, by its own interface (tools/server/README.md).

`timings_per_token` sends with each token what was drafted and accepted so far, and the time of the last pass:
tokens of one pass have it in common. So passes are counted exactly.
"""

from __future__ import annotations

from collections.abc import Iterable

from specbench.servers.answers import Completion, Prompt, Token
from specbench.servers.base import HttpServer, Stopwatch, as_json, ids, number

REASONS = {"eos": "stop", "word": "stop", "limit": "length"}
# What a request leaves out is taken from the server's start; these turn every sampler off but temperature.
PLAIN = {"samplers": ["temperature"], "repeat_penalty": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


class LlamaCpp(HttpServer):
    """A `llama-server`."""

    kind = "llama.cpp"
    tops = 100
    speaks_ids = True
    counts = (
        "drafted = draft_n, accepted = draft_n_accepted (without the bonus token; also behind a stop token), "
        "passes from timings_per_token"
    )

    def look(self) -> None:
        """As of `Server`."""
        props = self.client.asked("/props")
        if "build_info" not in props and "default_generation_settings" not in props:
            raise self.client.error("is no llama-server: its /props name no build", "try --server openai")
        self.version = props.get("build_info")
        self.model = self.model or str(props.get("model_alias") or props.get("model_path") or "")

    def complete(
        self,
        prompt: Prompt,
        most: int,
        temperature: float = 0.0,
        seed: int = 0,
        top: int = 0,
        fresh: bool = False,
    ) -> Completion:
        """As of `Server`."""
        watch = Stopwatch()
        question = self._question(prompt, most, temperature, seed)
        if top:
            question |= {"n_probs": top, "post_sampling_probs": False}
        if fresh:
            question["cache_prompt"] = False
        answer = self.client.asked("/completion", question)
        tokens = self._ids(answer)
        tops = tuple(_top(place) for place in answer.get("completion_probabilities") or ())
        if top and tokens and len(tops) < len(tokens) - 1:
            raise self.client.error(f"sends {len(tops)} log-probabilities for {len(tokens)} tokens")
        return self._completion(answer, str(answer.get("content", "")), tokens, watch, tops or None)

    def stream(self, prompt: Prompt, most: int) -> Completion:
        """As of `Server`."""
        watch, text, passes = Stopwatch(), "", 0
        tokens: list[int] = []
        question = self._question(prompt, most) | {"stream": True, "timings_per_token": True}
        answer: dict = {}
        last = None
        for answer in self.client.streamed("/completion", question, _is_last):
            timings = answer.get("timings") or {}
            found = self._ids(answer)
            if found:
                made = timings.get("predicted_ms")
                passes += made is not None and made != last
                last = made
                watch.note(len(found), passes or None, number(timings, "draft_n_accepted"))
            text += str(answer.get("content", ""))
            tokens += found
        if not answer.get("stop"):
            raise self.client.error("ended a stream without its last event")
        return self._completion(answer, text, tuple(tokens), watch, None, passes - 1 if passes else None)

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

    def _question(self, prompt: Prompt, most: int, temperature: float = 0.0, seed: int = 0) -> dict:
        sampling = {"temperature": temperature, "seed": seed, **PLAIN}
        return {"prompt": as_json(prompt), "n_predict": most, "return_tokens": True, **sampling}

    def _ids(self, answer: dict) -> tuple[int, ...]:
        found = ids(answer.get("tokens", []))
        if found is None:
            raise self.client.error("sends no token ids", "return_tokens came with llama.cpp b4336")
        return found

    def _completion(
        self,
        answer: dict,
        text: str,
        tokens: tuple[int, ...],
        watch: Stopwatch,
        tops: tuple[dict[Token, float], ...] | None,
        passes: int | None = None,
    ) -> Completion:
        timings, settings = answer.get("timings"), answer.get("generation_settings")
        stop = str(answer.get("stop_type", ""))
        drafted = number(timings, "draft_n")
        return Completion(
            text,
            REASONS.get(stop, stop or None),
            tokens,
            tops,
            prompt_tokens=number(answer, "tokens_evaluated"),
            completion_tokens=number(answer, "tokens_predicted"),
            drafted=drafted,
            accepted=number(timings, "draft_n_accepted"),
            passes=passes if drafted is not None else None,
            draft_limit=number(settings, "speculative.n_max"),
            total_ms=watch.total_ms,
            parts=tuple(watch.parts),
        )


def _top(place: dict) -> dict[Token, float]:
    entries: Iterable[dict] = [*(place.get("top_logprobs") or ()), place]
    return {int(each["id"]): float(each["logprob"]) for each in entries if "id" in each and "logprob" in each}


def _is_last(document: object) -> bool:
    return isinstance(document, dict) and document.get("stop") is True
