"""Any server with OpenAI's `/v1/completions`: text, tokens as text, and five log-probabilities at a place."""

from __future__ import annotations

from typing import ClassVar

from specbench.servers.answers import Completion, Prompt, Token
from specbench.servers.base import HttpServer, Stopwatch, as_json, number

COMPLETIONS = "/v1/completions"


class OpenAi(HttpServer):
    """A server of which nothing more is known than that it completes texts."""

    kind = "openai"
    tops = 5
    stream_top = 1
    """Log-probabilities asked for in streams, for the tokens that come with them."""
    lists_all = True
    streaming: ClassVar[dict[str, object]] = {"stream": True, "stream_options": {"include_usage": True}}

    def look(self) -> None:
        """As of `Server`."""
        listed = self.client.asked("/v1/models").get("data")
        names = (
            [each.get("id") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        )
        if self.model and self.model not in names and self.lists_all:
            raise self.client.error(
                f"has no model {self.model}", f"it has: {', '.join(map(str, names[:8]))}" if names else None
            )
        if not self.model:
            if len(names) != 1:
                raise self.client.error(f"has {len(names)} models", "name one with --model NAME")
            self.model = str(names[0])
        self.learn()

    def learn(self) -> None:
        """See whether log-probabilities are given."""
        self.tops = type(self).tops
        if self.complete("Hello", 1, top=self.tops).top is None:
            self.tops = 0

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
        question = self.question(prompt, most, temperature, seed, top, fresh)
        answer = self.client.asked(COMPLETIONS, question)
        choice = self.choice(answer)
        tops = self.top_of(choice) if top else None
        tokens = self.tokens_of(choice)
        usage = answer.get("usage")
        return Completion(
            str(choice.get("text", "")),
            choice.get("finish_reason"),
            tokens,
            tops,
            prompt_tokens=number(usage, "prompt_tokens"),
            completion_tokens=number(usage, "completion_tokens"),
            total_ms=watch.total_ms,
        )

    def stream(self, prompt: Prompt, most: int) -> Completion:
        """As of `Server`."""
        watch, text, reason = Stopwatch(), "", None
        tokens: list[Token] | None = []
        usage: object = None
        question = self.question(prompt, most, 0.0, 0, self.stream_top if self.tops else 0) | self.streaming
        for answer in self.client.streamed(COMPLETIONS, question, self.is_last):
            usage = answer.get("usage") or usage
            if not answer.get("choices"):
                continue
            choice = self.choice(answer)
            found = self.tokens_of(choice)
            reason = choice.get("finish_reason") or reason
            if choice.get("text") or found:
                watch.note(None if found is None else len(found))
                text += str(choice.get("text") or "")
                tokens = None if tokens is None or found is None else [*tokens, *found]
        if reason is None:
            raise self.client.error("ended a stream without a finish_reason")
        return Completion(
            text,
            reason,
            None if tokens is None else tuple(tokens),
            prompt_tokens=number(usage, "prompt_tokens"),
            completion_tokens=number(usage, "completion_tokens"),
            total_ms=watch.total_ms,
            parts=tuple(watch.parts),
        )

    def question(
        self, prompt: Prompt, most: int, temperature: float, seed: int, top: int, fresh: bool = False
    ) -> dict:
        """A request."""
        asked: dict[str, object] = {
            "model": self.model,
            "prompt": as_json(prompt),
            "max_tokens": most,
            "seed": seed,
        }
        asked |= {"temperature": temperature, "top_p": 1.0}
        return asked | ({"logprobs": top} if top else {})

    def choice(self, answer: dict) -> dict:
        """The one answer of a document."""
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self.client.error("answers a completion with something else")
        return choices[0]

    def tokens_of(self, choice: dict) -> tuple[Token, ...] | None:
        """What was said: as text of tokens, where log-probabilities tell it."""
        said = (choice.get("logprobs") or {}).get("tokens")
        if isinstance(said, list) and (said or not choice.get("text")):
            return tuple(map(str, said))
        return None

    def top_of(self, choice: dict) -> tuple[dict[Token, float], ...] | None:
        """The most likely tokens at each place."""
        places = (choice.get("logprobs") or {}).get("top_logprobs")
        if not isinstance(places, list) or not places:
            return None
        return tuple({str(token): float(value) for token, value in (place or {}).items()} for place in places)

    @staticmethod
    def is_last(document: object) -> bool:
        """Streams end with `[DONE]`."""
        return False


class TransformersServe(OpenAi):
    """`transformers serve`: text alone. Its streams end without `[DONE]`, with the event that has `usage`."""

    kind = "transformers"
    tops = 0
    lists_all = False
    streaming: ClassVar[dict[str, object]] = {"stream": True}

    def learn(self) -> None:
        """Nothing: it takes no `logprobs`."""

    @staticmethod
    def is_last(document: object) -> bool:
        """Whether an event has a reason to end."""
        choices = document.get("choices") if isinstance(document, dict) else None
        return bool(choices and choices[0].get("finish_reason"))
