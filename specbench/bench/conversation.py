"""From a prompt's turns to token ids: the target's tokenizer and chat template, for every method alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specbench.errors import ExitCode, SpecbenchError
from specbench.records import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def template_remark(tokenizer: PreTrainedTokenizerBase, model: str) -> str | None:
    """That a model has no chat template, where it has none, and what that does to prompts."""
    if tokenizer.chat_template is not None:
        return None
    return f"{model} has no chat template: turns and replies are plain texts, joined by blank lines"


STAND_IN = "x"
"""For a reply that is not known yet: templates may refuse an empty one, or leave out what stands around it."""


def most_tokens(tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], max_new_tokens: int) -> int:
    """Tokens of a conversation up to its last turn, where every earlier reply has its whole budget.

    A reply may be longer when it is read again, as text; whether a later turn fits is checked once it is known.

    Raises:
        SpecbenchError: as `prompt_ids`.
    """
    replies = len(turns) - 1
    stand_ins = prompt_ids(tokenizer, turns, [STAND_IN] * replies)
    return len(stand_ins) + replies * (max_new_tokens - 1)  # a stand-in takes at least one token


def prompt_ids(tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], replies: Sequence[str]) -> list[int]:
    """Token ids of a conversation that waits for its next reply.

    Without a chat template the texts are joined by blank lines, as a base model is prompted.

    Args:
        turns: what the user said, the last one unanswered.
        replies: what was answered, one fewer than `turns`.

    Raises:
        SpecbenchError: the chat template refuses the conversation, or fails.
    """
    if tokenizer.chat_template is None:
        texts = [text for pair in zip(turns, [*replies, ""], strict=True) for text in pair if text]
        return tokenizer("\n\n".join(texts))["input_ids"]
    messages: list[dict[str, str]] = []
    for index, turn in enumerate(turns):
        messages.append({"role": "user", "content": turn})
        if index < len(replies):
            messages.append({"role": "assistant", "content": replies[index]})
    return templated(tokenizer, messages, add_generation_prompt=True, return_dict=True)["input_ids"]


def templated(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **arguments: object) -> Any:
    """What the chat template makes of messages, as text or as tokens.

    Raises:
        SpecbenchError: it refuses them, is damaged, or none of several is the default.
    """
    try:
        return tokenizer.apply_chat_template(messages, **arguments)
    except Exception as error:  # a template is a program that comes with the model, and raises what it likes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = "change chat_template.jinja beside the model, or remove it to join texts by blank lines"
        if isinstance(tokenizer.chat_template, dict):
            hint = "name one of its templates 'default' (chat_template in tokenizer_config.json)"
        place = f"the chat template of {tokenizer.name_or_path}"
        raise SpecbenchError(f"{place} cannot be applied: {reason}", hint, ExitCode.MODEL) from error


def ids_sha256(token_ids: Sequence[int]) -> str:
    """Hash of token ids; two requests are the same question only where it is equal."""
    return hashlib.sha256(",".join(map(str, token_ids)).encode()).hexdigest()


def demand_room(prompt: Prompt, prompt_tokens: int, max_new_tokens: int, context_length: int | None) -> None:
    """Refuse a prompt that a model has no room for.

    Raises:
        SpecbenchError: prompt and budget together exceed the context.
    """
    if prompt_tokens == 0:
        raise SpecbenchError(f"prompt {prompt.prompt_id} has no tokens", exit_code=ExitCode.USAGE)
    if context_length is not None and prompt_tokens + max_new_tokens > context_length:
        raise SpecbenchError(
            f"prompt {prompt.prompt_id} has {prompt_tokens} tokens, and with a budget of {max_new_tokens} "
            f"does not fit the context of {context_length}",
            "shorten it, lower workload.max_new_tokens, or leave it out with --limit or --prompts",
            ExitCode.USAGE,
        )
