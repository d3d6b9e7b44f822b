"""Any server with OpenAI's `/v1/completions`: text, tokens as text, and five log-probabilities at a place."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import ClassVar

from specbench.servers.answers import Completion, Part, Question, Token
from specbench.servers.base import HttpServer, number
from specbench.servers.client import Client

MODELS = "/v1/models"


class OpenAi(HttpServer):
    """A server of which nothing more is known than that it completes texts."""

    kind = "openai"
    tops = 5
    path = "/v1/completions"
    stream_top = 1
    """Log-probabilities asked for in streams, for the tokens that come with them."""
    lists_all = True
    streaming: ClassVar[dict[str, object]] = {"stream": True, "stream_options": {"include_usage": True}}

    def look(self) -> None:
        """As of `HttpServer`."""
        entries = {each["id"]: each for each in listed(self.client) if not each.get("parent")}
        if self.model and self.model not in entries and self.lists_all:
            raise self.client.error(
                f"has no model {self.model}", f"it has: {', '.join(list(entries)[:8])}" if entries else None
            )
        if not self.model:
            if len(entries) != 1:
                raise self.client.error(
                    f"has {len(entries)} models", f"name one of them: {', '.join(list(entries)[:8])}"
                )
            (self.model,) = entries
        entry = entries.get(self.model, {})
        self.root, self.context_length = entry.get("root"), number(entry, "max_model_len")
        self.learn()

    def learn(self) -> None:
        """See whether log-probabilities are given."""
        self.tops = type(self).tops
        if self.complete(Question("Hello", 1, top=self.tops)).top is None:
            self.tops = 0

    def request(self, question: Question) -> dict:
        """As of `HttpServer`."""
        asked: dict[str, object] = {"model": self.model, "prompt": question.as_json}
        asked |= {"max_tokens": question.most, "temperature": question.temperature}
        if question.temperature:
            asked |= {"seed": question.seed, "top_p": 1.0}
        return asked | ({"logprobs": question.top} if question.top else {})

    def parts(self, question: Question, said: Completion) -> Generator[Part, None, None]:
        """As of `HttpServer`."""
        return super().parts(replace(question, top=self.stream_top if self.tops else 0), said)

    def take(self, document: dict, said: Completion) -> None:
        """As of `HttpServer`."""
        usage, choices = document.get("usage"), document.get("choices")
        said.prompt_tokens = number(usage, "prompt_tokens") or said.prompt_tokens
        said.completion_tokens = number(usage, "completion_tokens") or said.completion_tokens
        if usage and choices == []:
            return
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise self.client.error("answers a completion with something else")
        choice = choices[0]
        said.finish_reason = choice.get("finish_reason") or said.finish_reason
        text, tokens = self.text_of(choice), self.tokens_of(choice)
        if text or tokens:
            said.add(text, tokens)
        said.top = self.top_of(choice) or said.top

    def text_of(self, choice: dict) -> str:
        """What was said."""
        return str(choice.get("text") or "")

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


class OpenAiChat(OpenAi):
    """A server that only chats: its own template around every prompt, and no text to go on from."""

    kind = "openai-chat"
    tops = 0
    path = "/v1/chat/completions"

    def learn(self) -> None:
        """Nothing: behind a text that was said, nothing can be asked, so log-probabilities prove nothing."""

    def request(self, question: Question) -> dict:
        """As of `HttpServer`."""
        asked = super().request(question)
        return asked | {"messages": [{"role": "user", "content": asked.pop("prompt")}]}

    def text_of(self, choice: dict) -> str:
        """As of `OpenAi`."""
        message = choice.get("delta") or choice.get("message")
        return str((message.get("content") if isinstance(message, dict) else None) or "")


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


def listed(client: Client) -> list[dict]:
    """The models that a server lists.

    Raises:
        SpecbenchError: it lists none.
    """
    found = client.asked(MODELS).get("data")
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return [each for each in entries if isinstance(each.get("id"), str)]
