"""From a prompt's turns to token ids: the target's tokenizer and chat template, for every method alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specbench.benchmark.chat_form import ChatForm
from specbench.benchmark.prompt_files import Shown
from specbench.errors import ExitCode, ModelError, SpecbenchError
from specbench.results.records import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench.api import Request
    from specbench.models.context import Switch


PLAIN = ChatForm()


def template_remark(tokenizer: PreTrainedTokenizerBase, model: str) -> str | None:
    """That a model has no chat template, where it has none, and what that does to prompts."""
    if tokenizer.chat_template is not None:
        return None
    return f"{model} has no chat template: turns and replies are plain texts, joined by blank lines"


STAND_IN = "x"
"""For a reply that is not known yet: templates may refuse an empty one, or leave out what stands around it."""


def most_tokens(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[str],
    max_new_tokens: int,
    form: ChatForm = PLAIN,
    shown: Shown | None = None,
) -> int:
    """Tokens of a conversation up to its last turn, where every earlier reply has its whole budget.

    A reply may be longer when it is read again, as text; whether a later turn fits is checked once it is known.

    Raises:
        SpecbenchError: as `prompt_ids`.
    """
    replies = len(turns) - 1
    # A stand-in takes at least one token.
    return least_tokens(tokenizer, turns, form, shown) + replies * (max_new_tokens - 1)


def least_tokens(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[str],
    form: ChatForm = PLAIN,
    shown: Shown | None = None,
) -> int:
    """Tokens of a conversation up to its last turn, where every earlier reply is as short as can be.

    Raises:
        SpecbenchError: as `prompt_ids`.
    """
    return len(prompt_ids(tokenizer, turns, [STAND_IN] * (len(turns) - 1), form, shown))


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[str],
    replies: Sequence[str],
    form: ChatForm = PLAIN,
    shown: Shown | None = None,
) -> list[int]:
    """Token ids of a conversation that waits for its next reply.

    Without a chat template the texts are joined by blank lines, as a base model is prompted.

    Args:
        turns: what the user said, the last one unanswered.
        replies: what was answered, one fewer than `turns`, without the form's prefill.
        shown: images and sounds of the turns; `None` where they are text alone.

    Raises:
        SpecbenchError: the chat template refuses the conversation, leaves out a part of it, or fails; the text
            begins twice; or there is no template, and an image or a sound has no place in it.
    """
    form.demand_variables(tokenizer)
    if shown and not form.has_template(tokenizer):
        raise SpecbenchError(
            "a chat template says where an image or a sound stands, and there is none here",
            "name one (workload.chat_template), or leave out raw",
        )
    said = [form.prefill + reply for reply in replies]
    if not form.has_template(tokenizer):
        turn_by_turn = [text for pair in zip(turns, [*said, form.prefill], strict=True) for text in pair]
        text = "\n\n".join(part for part in (form.system or "", *turn_by_turn) if part)
        ids = tokenizer(text)["input_ids"]
    else:
        text = _templated_text(tokenizer, turns, said, form, shown) + form.prefill
        if shown and shown.up_to(len(turns)):
            ids = shown.tokens(text, len(turns))
        else:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    _demand_one_beginning(tokenizer, ids, form)
    return ids


def _templated_text(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[str],
    replies: Sequence[str],
    form: ChatForm,
    shown: Shown | None,
) -> str:
    def content(text: str, turn: int = -1) -> Any:
        """As text, or with images and sounds as a list of parts, which is what templates read then."""
        return shown.content(turn, text) if shown else text

    messages: list[dict[str, Any]] = []
    for index, turn in enumerate(turns):
        messages.append({"role": "user", "content": content(turn, index)})
        if index < len(replies):
            messages.append({"role": "assistant", "content": content(replies[index])})
    arguments: dict[str, Any] = {**form.variables, "add_generation_prompt": True, "tokenize": False}
    if form.template is not None:
        arguments |= {"chat_template": form.template, "place": form.place}
    if form.system is None:
        return templated(tokenizer, messages, **arguments)
    hint = "put it into the first turn, or name a template that takes one (workload.chat_template)"
    system = {"role": "system", "content": content(form.system)}
    try:
        text = templated(tokenizer, [system, *messages], **arguments)
    except ModelError as error:
        templated(tokenizer, messages, **arguments)  # its own error, if it is not the system message
        reason = error.message.partition("cannot be applied: ")[2]
        raise ModelError(f"{form.named(tokenizer)} takes no system message ({reason})", hint) from error
    if form.system.strip() not in text:
        raise ModelError(f"{form.named(tokenizer)} leaves out the system message", hint)
    return text


def _demand_one_beginning(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], form: ChatForm) -> None:
    """Refuse a prompt that begins with two tokens for the beginning: the model never saw that in training.

    Raises:
        ModelError: it does.
    """
    bos = tokenizer.bos_token_id
    if bos is None or list(ids[:2]) != [bos, bos]:
        return
    if form.has_template(tokenizer):
        raise ModelError(
            f"{form.named(tokenizer)} begins the prompt with {tokenizer.bos_token} twice",
            "let it write bos_token once",
        )
    raise ModelError(
        f"the text begins with {tokenizer.bos_token}, and the tokenizer of {tokenizer.name_or_path} adds "
        "another one",
        "take it out of the text",
    )


def templated(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], place: str = "", **arguments: Any
) -> Any:
    """What the chat template makes of messages, as text or as tokens.

    Args:
        place: of a template that is given as `chat_template`, in words.

    Raises:
        SpecbenchError: it refuses them, is damaged, or none of several is the default.
    """
    try:
        return tokenizer.apply_chat_template(messages, **arguments)
    except Exception as error:  # a template is a program that comes with the model, and raises what it likes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = "change chat_template.jinja beside the model, or remove it to join texts by blank lines"
        if place:
            hint = "change that file, or name another one"
        elif isinstance(tokenizer.chat_template, dict):
            hint = "name one of its templates 'default' (chat_template in tokenizer_config.json)"
        place = place or f"the chat template of {tokenizer.name_or_path}"
        raise ModelError(f"{place} cannot be applied: {reason}", hint) from error


def request_sha256(request: Request) -> str:
    """Hash of what a request asks; two are the same question only where it is equal."""
    files = request.media.sha256 if request.media else ()
    return hashlib.sha256(",".join(map(str, (*request.prompt_ids, *files))).encode()).hexdigest()


def demand_room(prompt: Prompt, prompt_tokens: int, max_new_tokens: int, context_length: int | None) -> None:
    """Refuse a prompt that a model has no room for.

    Raises:
        SpecbenchError: prompt and budget together exceed the context.
    """
    if prompt_tokens == 0:
        raise SpecbenchError(f"prompt {prompt.prompt_id} has no tokens", exit_code=ExitCode.USAGE)
    if context_length is not None and prompt_tokens + max_new_tokens > context_length:
        raise SpecbenchError(
            f"prompt {prompt.prompt_id} has {prompt_tokens} tokens and with a budget of {max_new_tokens} "
            f"does not fit the context of {context_length}",
            "shorten it, lower workload.max_new_tokens, or leave it out (workload.prompts, workload.limit)",
            ExitCode.USAGE,
        )


def demand_steady(
    prompt: Prompt, prompt_tokens: int, max_new_tokens: int, turns: int, switch: Switch | None, model: str
) -> None:
    """Refuse a text that passes the length at which a model changes its rotary frequencies.

    What is in a cache was computed with the earlier ones, so from there on no loop with a cache says what the
    model does.

    Args:
        turns: how many replies are not known yet, the last one included; each may be of the whole budget.

    Raises:
        SpecbenchError: naming the prompt's length, the budget and that length.
    """
    longest = prompt_tokens + max_new_tokens * turns - 1  # the last token is never read
    if switch is None or not switch.is_crossed(prompt_tokens, longest):
        return
    room = (switch.length + 1 - prompt_tokens) // turns
    ways = [f"--set workload.max_new_tokens={room}"] if room > 0 else []
    if switch.is_steady:
        ways.append(f"prompts that are longer than {switch.length} tokens")
    each = f" for each of {turns} turns" if turns > 1 else ""
    raise SpecbenchError(
        f"prompt {prompt.prompt_id} has {prompt_tokens} tokens and with a budget of {max_new_tokens}{each} "
        f"its text may pass {switch.length} tokens, where {model} changes its rotary frequencies "
        f"({switch.kind}): the cache would hold keys of the shorter text",
        f"{' or '.join(ways) or 'shorter prompts'}; leave this one out (workload.prompts, workload.limit)",
        ExitCode.USAGE,
    )
