"""The seed prompts: an endless, reproducible stream of varied conversations.

Six families (conversation, questions, mathematics, summaries, retrieval, translation) from three springs:
openings that the target continues in the user's role, real passages (`passages.jsonl.xz`, whose sources
and licences SOURCES.md names), and the phrases and word problems of `seeds.json`. Nothing here is taken from
the benchmark's own prompts.
"""

from __future__ import annotations

import functools
import json
import lzma
import random
import re
from collections.abc import Callable, Iterator
from importlib import resources

from specbench.distill.text_jobs import TEMPERATURES, Job, Turn


def jobs(seed: int) -> Iterator[Job]:
    """Job 0, 1, 2, … without end; each depends on the seed and its number alone."""
    makers, weights = list(FAMILIES), list(FAMILIES.values())
    index = 0
    while True:
        rng = random.Random(f"{seed}/{index}")
        maker = rng.choices(makers, weights)[0]
        yield Job(maker.__name__, tuple(maker(rng)))
        index += 1


@functools.cache
def passages(language: str) -> tuple[str, ...]:
    """The shipped passages in `en` or `de`, neighbours from the same source."""
    packed = (resources.files("specbench.distill") / "passages.jsonl.xz").read_bytes()
    rows = [json.loads(line) for line in lzma.decompress(packed).decode().splitlines()]
    return tuple(row["text"] for row in rows if row["lang"] == language)


@functools.cache
def phrases() -> dict[str, list]:
    """The lists of `seeds.json`, by name."""
    return json.loads((resources.files("specbench.distill") / "seeds.json").read_text(encoding="utf-8"))


@functools.cache
def names_in_passages() -> tuple[str, ...]:
    """Capitalised names that occur inside English sentences, to ask about."""
    pattern = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: (?:of (?:the )?)?[A-Z][a-z]+){0,3}")
    return tuple(sorted({name for text in passages("en") for name in pattern.findall(text)}))


def word_problem(rng: random.Random) -> str:
    """An arithmetic word problem: one alternative of every slot of a kind, with names and numbers filled in."""
    kinds = phrases()["problems"]
    kind = rng.choices(kinds, [kind["weight"] for kind in kinds])[0]
    values = _problem_values(rng)
    # Numbers are drawn anew for every sentence, names and things once.
    sentences = [rng.choice(slot).format(**values, **_numbers(rng)) for slot in kind["slots"]]
    return " ".join(sentence for sentence in sentences if sentence)


def conversation(rng: random.Random) -> list[Turn]:
    """Open requests of all kinds; half of them go on."""
    pick = rng.random()
    if pick < 0.7:
        opening = "" if pick < 0.3 else _phrase(rng, "openings")
        turns = [_invented(rng, opening, 200, 224)]
    elif pick < 0.76:
        text = rng.choice(passages("en"))[:900]
        turns = [_asked(rng, _phrase(rng, "edits").format(p=text), 200)]
    else:
        first, second = rng.sample(phrases()["topics"], 2)
        turns = [_asked(rng, _phrase(rng, "instructions").format(t=first, u=second), 224)]
    return turns + (_follow_up(rng, "follow_ups", 192) if rng.random() < 0.5 else [])


def question(rng: random.Random) -> list[Turn]:
    """Short factual questions."""
    if rng.random() < 0.25:
        name = rng.choice(names_in_passages())
        return [_asked(rng, _phrase(rng, "about_entity").format(n=name), 128)]
    start = _phrase(rng, "questions")
    if rng.random() < 0.25:
        start = start[0].upper() + start[1:]
    return [_invented(rng, start, 48, 128)]


def mathematics(rng: random.Random) -> list[Turn]:
    """Word problems, written by the grammar or begun and left to the target."""
    if rng.random() < 0.55:
        return [_asked(rng, word_problem(rng), 224)]
    values = {**_problem_values(rng), **_numbers(rng), "verb": _phrase(rng, "verbs")}
    return [_invented(rng, _phrase(rng, "problem_openings").format(**values), 120, 224)]


def summary(rng: random.Random) -> list[Turn]:
    """Articles of the target's own, and passages, some of them long."""
    if rng.random() < 0.45:
        turns = [_invented(rng, _phrase(rng, "article_leads") + _phrase(rng, "datelines"), 420, 144)]
    else:
        text = _neighbours(rng, least_characters=450 if rng.random() < 0.7 else 1800)
        turns = [_asked(rng, _phrase(rng, "summaries").format(p=_cut(text, 3600)), 160)]
    return turns + (_follow_up(rng, "more_summary", 96) if rng.random() < 0.4 else [])


def retrieval(rng: random.Random) -> list[Turn]:
    """Questions about one to five passages that come with them."""
    english = passages("en")
    count = rng.choice([1, 2, 3, 3, 4, 5])
    if rng.random() < 0.5:
        chosen = [rng.choice(english) for _ in range(count)]
    else:
        at = rng.randrange(len(english) - count)
        chosen = list(english[at : at + count])
    texts = [_cut(text, rng.choice([400, 550, 700, 900])) for text in chosen]
    style = _phrase(rng, "passage_styles")
    shown = [style.format(i=number, t=text) for number, text in enumerate(texts, start=1)]
    context = rng.choice(["\n\n", "\n"]).join(shown)
    if rng.random() < 0.4:
        opening = f"{_phrase(rng, 'question_leads')}{context}\n\nQuestion:"
        turns = [_invented(rng, opening, 60, 144)]
    else:
        asked = _about(rng, rng.choice(texts))
        turns = [_asked(rng, _phrase(rng, "retrieval").format(c=context, q=asked), 144)]
    if rng.random() < 0.45:
        turns.append(_asked(rng, _about(rng, rng.choice(texts)), 112))
    return turns


def translation(rng: random.Random) -> list[Turn]:
    """German sentences to be said in English."""
    german = passages("de")
    text = rng.choice(german)
    while len(text) < 90 and rng.random() < 0.7:
        text += " " + rng.choice(german)
    turns = [_asked(rng, _phrase(rng, "translate").format(g=text[:450]), 128)]
    if rng.random() < 0.3:
        turns.append(_asked(rng, _phrase(rng, "translate").format(g=rng.choice(german)[:300]), 96))
    return turns


FAMILIES: dict[Callable[[random.Random], list[Turn]], int] = {
    conversation: 27, question: 15, mathematics: 16, summary: 18, retrieval: 14, translation: 10,
}  # fmt: skip


def _phrase(rng: random.Random, name: str) -> str:
    return rng.choice(phrases()[name])


def _temperature(rng: random.Random) -> float:
    return 0.0 if rng.random() < 0.66 else rng.choice(TEMPERATURES)


def _asked(rng: random.Random, text: str, answer_tokens: int) -> Turn:
    return Turn(text.strip(), answer_tokens, _temperature(rng))


def _invented(rng: random.Random, opening: str, invent_tokens: int, answer_tokens: int) -> Turn:
    return Turn(opening, answer_tokens, _temperature(rng), invent_tokens)


def _follow_up(rng: random.Random, name: str, answer_tokens: int) -> list[Turn]:
    if rng.random() < 0.5:
        return [_asked(rng, _phrase(rng, name), answer_tokens)]
    return [_invented(rng, "", 80, answer_tokens)]


def _about(rng: random.Random, text: str) -> str:
    """A question about a name or a word of the text."""
    names = re.findall(r"[A-Z][a-z]{2,}(?: [A-Z][a-z]+){0,2}", text) or ["this"]
    words = re.findall(r"[a-z]{7,}", text) or ["this"]
    template = _phrase(rng, "about_text")
    return template.format(n=rng.choice(names), m=rng.choice(names), w=rng.choice(words))


def _neighbours(rng: random.Random, least_characters: int) -> str:
    """A passage and those that follow it, until there is enough."""
    english = passages("en")
    at = rng.randrange(len(english))
    text = english[at]
    while len(text) < least_characters:
        at = (at + 1) % len(english)
        text += "\n" + english[at]
    return text


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters].rsplit(" ", 1)[0]


def _problem_values(rng: random.Random) -> dict[str, str]:
    first, second, third = rng.sample(phrases()["names"], 3)
    thing, other = rng.sample(phrases()["things"], 2)
    return {"a": first, "b": second, "c": third, "x": thing, "y": other, "place": _phrase(rng, "places")}


def _numbers(rng: random.Random) -> dict[str, object]:
    price = rng.choice([0.5, 1.5, 2, 3, 4, 5, 7, 8, 12, 15, 25])
    return {
        "few": rng.randint(2, 12),
        "some": _rounded(rng, 5, 60),
        "many": _rounded(rng, 40, 160),
        "times": rng.randint(2, 6),
        "hours": rng.randint(2, 7),
        "rate": rng.randint(8, 45),
        "percent": rng.choice([5, 10, 15, 20, 25, 30, 40, 50, 60, 75]),
        "speed": 5 * rng.randint(3, 18),
        "distance": 10 * rng.randint(4, 60),
        "note": rng.choice([50, 100, 150, 200, 300]),
        "money": f"${price:g}" if price == int(price) else f"${price:.2f}",
    }


def _rounded(rng: random.Random, low: int, high: int) -> int:
    value = rng.randint(low, high)
    return value if value < 30 or rng.random() < 0.4 else 5 * round(value / 5)
