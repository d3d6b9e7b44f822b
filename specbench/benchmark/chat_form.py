"""How a conversation is put to a model: system message, template, beginning of the answer, its grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from specbench.errors import ModelError, SpecbenchError
from specbench.profile import GrammarSpec
from specbench.profile.schema import RAW
from specbench.results.environment import expanded
from specbench.results.records import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbench.profile import Workload


@dataclass(frozen=True)
class ChatForm:
    """What is put around the user's messages and the answers to them, and what these may be.

    Args:
        system: the system message.
        prefill: the beginning of every answer, which the model goes on from.
        variables: of the chat template, such as `enable_thinking` or `tools`.
        template: a template in place of the model's own, in Jinja; `place` says where it stands.
        is_raw: no template; texts are joined by blank lines.
        grammar: kind and text of what an answer may be; empty for any text.
    """

    system: str | None = None
    prefill: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    place: str = ""
    is_raw: bool = False
    grammar: tuple[str, str] | tuple[()] = ()

    @classmethod
    def of(cls, workload: Workload, prompt: Prompt, template: str | None) -> ChatForm:
        """That of a prompt: what its line says, and else what the profile says.

        Args:
            template: text of the file that the profile names.
        """
        is_raw = workload.chat_template == RAW if prompt.raw is None else prompt.raw
        return cls(
            system=workload.system if prompt.system is None else prompt.system or None,
            prefill=(workload.prefill if prompt.prefill is None else prompt.prefill) or "",
            variables={**workload.chat_template_kwargs, **prompt.chat_template_kwargs},
            template=None if is_raw else template,
            place=f"the chat template {workload.chat_template}" if template else "",
            is_raw=is_raw,
            grammar=_grammar(workload, prompt),
        )

    def named(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The template, in words."""
        return self.place or f"the chat template of {tokenizer.name_or_path}"

    def has_template(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether messages are put into a template."""
        return not self.is_raw and (self.template or tokenizer.chat_template) is not None

    def demand_variables(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse variables that nothing reads: the model would not see what the profile says.

        Raises:
            SpecbenchError: naming the first one.
        """
        if not self.has_template(tokenizer):
            for name in self.variables:
                raise SpecbenchError(
                    f"{name} is a variable of a chat template, and there is none here",
                    "drop it from chat_template_kwargs (or tools), or name a template (workload.chat_template)",
                )
            return
        own = self.template or tokenizer.chat_template
        text = "\n".join(own.values()) if isinstance(own, dict) else str(own)
        for name in self.variables:
            if not re.search(rf"\b{re.escape(name)}\b", text):
                raise ModelError(
                    f"{self.named(tokenizer)} does not read the variable {name}",
                    "drop it from chat_template_kwargs (or tools), or name another template "
                    "(workload.chat_template)",
                )

    @property
    def identity(self) -> list[object]:
        """What two equal questions have alike beside their turns; empty without anything of it."""
        found: list[object] = [self.system, self.prefill, dict(self.variables), self.template, self.is_raw]
        return [*(found if any(found) else []), *self.grammar]


def _grammar(workload: Workload, prompt: Prompt) -> tuple[str, str] | tuple[()]:
    if prompt.grammar is None:
        return workload.grammar.definition if workload.grammar else ()
    return GrammarSpec.model_validate(prompt.grammar).definition if prompt.grammar else ()


def read_template(workload: Workload) -> str | None:
    """The template that a profile names; `None` where that is the model's own, or none.

    Raises:
        SpecbenchError: the file cannot be read.
    """
    if workload.chat_template in (None, RAW):
        return None
    path = expanded(workload.chat_template)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecbenchError(
            f"workload.chat_template: {path} cannot be read: {reason}",
            f"name a file in Jinja, or '{RAW}' for none",
        ) from error
