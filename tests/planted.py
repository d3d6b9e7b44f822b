"""Servers on tiny real models, honest or with one planted fault, in the dialects of llama.cpp and OpenAI.

An honest server without a draft decodes step by step; with one it drafts, verifies in one pass, and rolls its
KV cache back, as engines do.
"""

import json
import threading
import time

import torch
from vllm_exchanges import Listening

from specbench.benchmark.conversation import prompt_ids
from specbench.results.records import Prompt
from specbench.testing import STOP_ID

DRAFT_LENGTH = 2
FAULTS = (
    "off_by_one_after_refusal", "bonus_dropped", "bonus_doubled", "residual_not_renormalised",
    "draft_temperature_twice", "behind_the_stop_token", "other_template", "cache_reused_across_prompts",
    "acceptance_counts_the_bonus", "loops", "double_bos", "temperature_ignored",
)  # fmt: skip


QUESTIONS = [
    Prompt(str(number), "talk", (text,))
    for number, text in enumerate(("hello there", "what is 12 + 30?", "tell me a story", "7 * 8 = ", "why?"))
]


class Planted(Listening):
    """One server.

    Args:
        target: a CloudModel; `draft` an EdgeModel, or nothing.
        fault: one of `FAULTS`.
        stop_ids: what ends a text.
        shake: standard deviation of noise on every logit, as rounding makes it.
        swallows: its streams have no event for some tokens, as llama-server's have none for a token that ends
            inside a character; the next event brings the text.
        change: may return (status, kind, body) in the place of an answer; it is given path and question.
    """

    def __init__(
        self,
        target,
        draft=None,
        fault=None,
        dialect="llama.cpp",
        stop_ids=(STOP_ID,),
        shake=0.0,
        change=None,
        swallows=False,
    ):
        assert fault is None or fault in FAULTS
        self._target, self._draft, self._fault, self._dialect = target, draft, fault, dialect
        self._stop_ids, self._shake, self._change = frozenset(stop_ids), shake, change
        self._swallows, self._was_read = swallows, 0
        self._session = target.engine.session()
        self._drafting = draft.engine.session() if draft else None
        self._cached = []
        self._lock = threading.Lock()
        self._random = torch.Generator().manual_seed(99)

    # HTTP

    def answer(self, method, path, question, authorized):
        changed = self._change and self._change(path, question)
        if changed:
            return changed
        with self._lock:
            found = self._answer(path, question)
        if found is None:
            return 404, "application/json", b'{"error": {"message": "no such path"}}'
        if isinstance(found, Events):
            end = b"data: [DONE]\n\n" if self._dialect != "llama.cpp" else b""
            return 200, "text/event-stream", b"".join(map(_event, found)) + end
        return 200, "application/json", json.dumps(found).encode()

    def _answer(self, path, question):
        if self._dialect != "llama.cpp":
            if path == "/v1/models":
                return {"data": [{"id": "tiny", "owned_by": "us"}]}
            chats = "/v1/chat/completions" if self._dialect == "chat" else "/v1/completions"
            return self._openai(question) if path == chats else None
        if path == "/v1/models":
            return {"data": [{"id": "tiny", "owned_by": "llamacpp"}]}
        if path == "/props":
            return {"default_generation_settings": {}, "build_info": "b1-tests", "model_alias": "tiny"}
        if path == "/tokenize":
            return {"tokens": self._target.tokenizer(question["content"])["input_ids"]}
        if path == "/apply-template":
            return {"prompt": self._templated(question["messages"][0]["content"])}
        return self._llama(question) if path == "/completion" else None

    def _templated(self, text):
        tokenizer = self._target.tokenizer
        found = tokenizer.decode(prompt_ids(tokenizer, [text], []))
        if self._fault == "other_template":
            return "You are kind. " + found
        return "<|user|>" + found if self._fault == "double_bos" else found

    def _llama(self, question):
        if isinstance(question["prompt"][0], list):
            answers = [self._llama({**question, "prompt": each}) for each in question["prompt"]]
            return [{**each, "index": index} for index, each in enumerate(answers)][::-1]  # in no order
        prompt, most = question["prompt"], question["n_predict"]
        sampling = question["temperature"], question["seed"], question.get("cache_prompt", True)
        made = list(self._decoded(prompt, most, *sampling))
        tokens = [token for tokens, *_ in made for token in tokens]
        stopped = self._stop_ids & set(tokens[-1:])
        last = {
            "tokens": [] if question.get("stream") else tokens, "content": self._text(tokens), "stop": True,
            "stop_type": "eos" if stopped else "limit", "tokens_evaluated": len(prompt),
            "tokens_predicted": len(tokens), "timings": self._timings(made, len(made)),
        }  # fmt: skip
        if question.get("n_probs"):
            places = [row for *_, rows in made for row in rows][: len(tokens)]
            last["completion_probabilities"] = [_top(row, question["n_probs"]) for row in places]
        if not question.get("stream"):
            return last
        events, count, held = Events(), 0, ""
        for number, (tokens, *_) in enumerate(made, start=1):
            timings = self._timings(made, number)
            for token in tokens:
                count, held = count + 1, held + self._text([token])
                if self._swallows and count % 3 == 2:
                    continue
                part = {"tokens": [token], "content": held, "stop": False, "timings": timings}
                events.append({**part, "tokens_predicted": count})
                held = ""
        return Events([*events, {**last, "content": ""}])

    def _openai(self, question):
        tokenizer = self._target.tokenizer
        if self._dialect == "chat":
            question = {**question, "prompt": self._templated(question["messages"][0]["content"])}
        prompt, most = tokenizer(question["prompt"])["input_ids"], question["max_tokens"]
        top = question.get("logprobs", 0)
        made = list(self._decoded(prompt, most, question["temperature"], question.get("seed", 0)))
        tokens = [token for tokens, *_ in made for token in tokens]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens)}
        reason = "stop" if self._stop_ids & set(tokens[-1:]) else "length"
        if question.get("stream"):
            parts = [
                {"choices": [self._choice([token], [row], top)]} for tokens, *_, rows in made
                for token, row in zip(tokens, rows or [None] * len(tokens), strict=True)
            ]  # fmt: skip
            parts += [
                {"choices": [{"text": "", "delta": {}, "finish_reason": reason}]},
                {"choices": [], "usage": usage},
            ]
            return Events(parts)
        rows = [row for *_, rows in made for row in rows]
        return {"choices": [{**self._choice(tokens, rows, top, True), "finish_reason": reason}], "usage": usage}

    def _choice(self, tokens, rows, top, is_whole=False):
        choice = {"text": self._text(tokens), "finish_reason": None}
        if self._dialect == "chat":
            said = {"role": "assistant", "content": choice.pop("text")}
            choice |= {"message" if is_whole else "delta": said}
        if top:
            places = []
            for row in rows:
                values, found = row.log_softmax(-1).topk(top)
                places.append({self._text([int(i)]): float(v) for i, v in zip(found, values, strict=True)})
            choice["logprobs"] = {"tokens": [self._text([each]) for each in tokens], "top_logprobs": places}
        return choice

    def _timings(self, made, count):
        drafted = sum(drafted for _, drafted, _, _ in made[:count])
        accepted = sum(accepted for _, _, accepted, _ in made[:count])
        timings = {"predicted_ms": float(count), "prompt_n": self._was_read}
        return {**timings, "draft_n": drafted, "draft_n_accepted": accepted} if drafted else timings

    def _text(self, tokens):
        return self._target.tokenizer.decode(tokens)

    # Decoding: yields tokens, drafted, accepted, and the logits behind which each token stands

    def _decoded(self, prompt, most, temperature, seed, from_cache=True):
        random = torch.Generator().manual_seed(seed)
        said, temperature = 0, 0.0 if self._fault == "temperature_ignored" else temperature
        for tokens, drafted, accepted, rows in self._passes(prompt, temperature, random, from_cache):
            tokens, rows = tokens[: most - said], rows[: most - said]
            ends = [index for index, token in enumerate(tokens) if token in self._stop_ids]
            if ends and self._fault != "behind_the_stop_token":
                tokens, rows = tokens[: ends[0] + 1], rows[: ends[0] + 1]
            said += len(tokens)
            yield tokens, drafted, accepted, rows
            if said >= most or (ends and self._fault != "behind_the_stop_token"):
                return

    def _passes(self, prompt, temperature, random, from_cache):
        rows = self._read(prompt, from_cache)
        text = [self._pick(rows[-1], temperature, random)]
        yield text[:], 0, 0, [rows[-1]]
        while True:
            context = [*prompt, *text]
            drafts, proposed = self._drafts(context, temperature, random)
            rows = self._shaken(self._session.extend([text[-1], *drafts]))
            accepted, own = self._judge(rows, drafts, proposed, temperature, random)
            refused = accepted < len(drafts)
            keep = len(context) + accepted + (refused and self._fault == "off_by_one_after_refusal")
            self._session.truncate(min(keep, self._session.length))
            self._cached = [*context, *drafts[:accepted]]
            new, said = [*drafts[:accepted], own], [*drafts[:accepted], own]
            text += new
            if drafts and not refused and self._fault == "bonus_dropped":
                said = said[:-1]
            if drafts and not refused and self._fault == "bonus_doubled":
                said = [*said, own]
            if self._fault == "loops" and len(text) > 6:
                said = [5] * len(said)
            counted = accepted + (self._fault == "acceptance_counts_the_bonus" and bool(drafts) and not refused)
            shown = [rows[min(index, accepted)] for index in range(len(said))]
            if said:
                yield said, len(drafts), counted, shown

    def _read(self, prompt, from_cache):
        """Logits behind a prompt; what it shares with the last one is in the cache."""
        shared = 0
        for one, other in zip(prompt[:-1], self._cached, strict=False):
            if one != other:
                break
            shared += 1
        if self._fault == "cache_reused_across_prompts" and shared < len(prompt) - 3 and self._cached:
            shared += 2
        shared = min(shared, self._session.length) if from_cache else 0
        self._session.truncate(shared)
        read = self._session.extend if shared else self._session.prefill
        rows = self._shaken(read(prompt[shared:]))
        self._cached, self._was_read = list(prompt), len(prompt) - shared
        return rows

    def _drafts(self, context, temperature, random):
        if not self._drafting:
            return [], []
        self._drafting.truncate(0)
        row = self._drafting.prefill(context)[-1].float()
        drafts, proposed = [], []
        for _ in range(DRAFT_LENGTH):
            if temperature:
                claimed = (row / temperature).softmax(-1)
                twice = self._fault == "draft_temperature_twice"
                drawn = (row / temperature**2).softmax(-1) if twice else claimed
                drafts.append(int(torch.multinomial(drawn, 1, generator=random)))
                proposed.append(claimed)
            else:
                drafts.append(int(row.argmax()))
            row = self._drafting.extend(drafts[-1:])[-1].float()
        return drafts, proposed

    def _judge(self, rows, drafts, proposed, temperature, random):
        """How many drafted tokens stand, and the token behind them."""
        for index, draft in enumerate(drafts):
            if not temperature:
                if int(rows[index].argmax()) != draft:
                    return index, int(rows[index].argmax())
                continue
            wanted, offered = (rows[index] / temperature).softmax(-1), proposed[index]
            if float(torch.rand((), generator=random)) * float(offered[draft]) < float(wanted[draft]):
                continue
            rest = (wanted - offered).clamp(min=0)
            if self._fault == "residual_not_renormalised":
                place = torch.searchsorted(rest.cumsum(-1), torch.rand(1, generator=random))
                return index, min(int(place), len(rest) - 1)
            return index, int(torch.multinomial(rest / rest.sum(), 1, generator=random))
        return len(drafts), self._pick(rows[len(drafts)], temperature, random)

    def _pick(self, row, temperature, random):
        if not temperature:
            return int(row.argmax())
        return int(torch.multinomial((row / temperature).softmax(-1), 1, generator=random))

    def _shaken(self, rows):
        rows = rows.float()
        return rows + self._shake * torch.randn(rows.shape, generator=self._random) if self._shake else rows


class Events(list):
    """What is streamed."""


def _event(document):
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _top(row, count):
    values, found = row.log_softmax(-1).topk(min(count, row.shape[-1]))
    pairs = [{"id": int(each), "logprob": float(value)} for each, value in zip(found, values, strict=True)]
    return {**pairs[0], "top_logprobs": pairs}


def pausing(seconds):
    """A change that says nothing for so long."""

    def change(path, question):
        time.sleep(seconds)

    return change
