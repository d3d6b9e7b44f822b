"""What both servers are asked: the same token ids where they speak ids, else the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench.errors import ExitCode, SpecbenchError
from specbench.results import records
from specbench.servers.answers import Prompt, Question
from specbench.servers.base import Server

IDS, TOKENS, TEXT = "token ids", "tokens", "text"
LOOKED_AT = 3  # questions by which tokenizers and templates are compared


@dataclass(frozen=True)
class Asked:
    """One prompt as it is sent; `category` is that of its question."""

    prompt_id: str
    category: str
    question: Question


def asked_as(
    questions: Sequence[records.Prompt], server: Server, reference: Server, most: int
) -> tuple[list[Asked], str, list[str]]:
    """The prompts, what is compared, and what differs between the servers before anything is said.

    Args:
        most: tokens of an answer, at most.

    With ids, both get those of the reference's chat template, so that a template of the server's own does not
    look like a fault of its decoding; it is told apart from it.

    Raises:
        SpecbenchError: the two turn the same text into other ids.
    """
    texts = [question.turns[0] for question in questions]
    if not (server.speaks_ids and reference.speaks_ids):
        compared = TOKENS if server.tops and reference.tops and not _either_ids(server, reference) else TEXT
        prompts: list[Prompt] = list(texts)
    else:
        _demand_one_tokenizer(texts, server, reference)
        found = [reference.templated(text) or reference.tokenized(text) for text in texts]
        compared = IDS
        prompts = [ids or text for ids, text in zip(found, texts, strict=True)]
    rows = zip(questions, prompts, strict=True)
    asked = [Asked(each.prompt_id, each.category, Question(prompt, most)) for each, prompt in rows]
    return asked, compared, _other_template(texts, server, reference)


def _either_ids(server: Server, reference: Server) -> bool:
    return server.speaks_ids or reference.speaks_ids


def _demand_one_tokenizer(texts: Sequence[str], server: Server, reference: Server) -> None:
    for text in texts[:LOOKED_AT] if server is not reference else ():
        ours, theirs = server.tokenized(text), reference.tokenized(text)
        if ours is not None and theirs is not None and ours != theirs:
            raise SpecbenchError(
                f"{server.url} and {reference.url} use different tokenizers, so they run different models",
                "start both with the same model",
                ExitCode.UNFAIR,
            )


def _other_template(texts: Sequence[str], server: Server, reference: Server) -> list[str]:
    """How the chat template of the server differs from the reference's, and whether a template is odd."""
    found: list[str] = []
    for each in (server, reference) if server is not reference else (server,):
        ids = each.templated(texts[0])
        plain = each.tokenized(texts[0])
        if ids and plain and ids[:1] * 2 == ids[:2] and plain[:1] != ids[:1]:
            found.append(f"{each.url} begins prompts with token {ids[0]} twice (double BOS)")
    for text in texts[:LOOKED_AT] if server is not reference and not found else ():
        ours, theirs = server.templated(text), reference.templated(text)
        if ours is None or theirs is None or ours == theirs:
            continue
        place = next(
            (index for index, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
            min(len(ours), len(theirs)),
        )
        found.append(
            f"another chat template: {server.url} makes {len(ours)} tokens of a question and {reference.url} "
            f"makes {len(theirs)}; they differ from token {place} on"
        )
        break
    return found
