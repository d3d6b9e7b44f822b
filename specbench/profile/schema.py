"""The profile's fields, their types, and the settings that contradict each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from specbench.profile.cluster import ClusterSpec
from specbench.profile.decoding import Decoding, Speculative
from specbench.profile.grammar import GrammarSpec
from specbench.profile.link import LinkSpec
from specbench.profile.models import CloudSpec, EdgeSpec
from specbench.profile.part import Name, Part
from specbench.profile.price_list import PriceList

BUILTIN = "builtin"
RAW = "raw"
CALLED_BY_US = (
    "conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize", "padding",
    "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
    "tokenizer_kwargs", "messages",
)  # fmt: skip
"""Arguments of `apply_chat_template` that are no variables of a template, or that specbench sets itself."""


def demand_variables(names: Iterable[object]) -> None:
    """Refuse names that are no variables of a chat template.

    Raises:
        ValueError: naming the first one.
    """
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{name!r} is not the name of a variable")
        if name in CALLED_BY_US:
            raise ValueError(f"{name} is set by specbench itself; name variables that the template reads")


class EngineSpec(Part):
    """What runs the forward passes, for the control and for speculation alike."""

    kind: Literal["auto", "compiled", "eager"] = Field(
        default="auto",
        description="`eager` is the forward pass of transformers. `compiled` compiles whole passes, once "
        "per model and machine. `auto` compiles on a CPU where a C++ compiler and the architecture allow it, "
        "and is else eager; a line says which.",
    )
    batch_invariant: bool = Field(
        default=False,
        description="Make every row of a verification bit for bit the row of a single step. Not with `eager`.",
    )
    check_cache: bool = Field(
        default=True,
        description="Check the lengths of the caches after every round. This time is not measured.",
    )

    @model_validator(mode="after")
    def _torch_has_no_invariant_kernels(self) -> EngineSpec:
        if self.batch_invariant and self.kind == "eager":
            raise ValueError("batch_invariant needs kind: compiled; torch's own kernels depend on the width")
        return self


class Workload(Part):
    """Which prompts, how many, how long, how often."""

    prompts: Name = Field(
        default=BUILTIN,
        description="`builtin` (48 prompts in six categories), or the path of a JSONL file in Spec-Bench's "
        "format.",
    )
    limit: Annotated[int, Field(ge=1)] | None = Field(
        default=12,
        description="Number of prompts, drawn from all categories in turn. null is all, and what holds "
        "where `prompts` names a file and no limit is given beside it.",
    )
    max_new_tokens: Annotated[int, Field(ge=1)] = Field(default=96, description="Longest answer, in tokens.")
    warmup: Annotated[int, Field(ge=0)] = Field(
        default=1, description="Answers of each method before the measurement, which are thrown away."
    )
    repeats: Annotated[int, Field(ge=1)] = Field(default=1, description="How often each prompt is asked.")
    restarts: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Processes that measure one after the other, each all prompts and repeats. From three on, "
        "the interval of a speed-up covers what differs between them.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="Decides the order of prompts and methods, and every random number."
    )
    system: str | None = Field(
        default=None, description="System message of every conversation whose line has none of its own."
    )
    prefill: str | None = Field(
        default=None,
        description="Beginning of every answer, which the model goes on from. It is a part of the prompt.",
    )
    chat_template: Name | None = Field(
        default=None,
        description=f"Path of a chat template in Jinja, or `{RAW}` to ask without one: texts are then joined "
        "by blank lines. null is the model's own.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default={},
        description="Variables of the chat template, such as `{enable_thinking: false}`. One that the template "
        "does not read is refused.",
    )
    grammar: GrammarSpec | None = Field(
        default=None,
        description="What every answer may be whose line has no grammar of its own. Needs "
        "`pip install 'specbench[grammar]'`.",
    )
    keep_prompts: bool = Field(
        default=False, description="Keep what the model read as text in each record, beside its hash."
    )

    @field_validator("chat_template_kwargs")
    @classmethod
    def _are_variables(cls, value: dict[str, Any]) -> dict[str, Any]:
        demand_variables(value)
        return value

    @field_validator("system", "prefill", "chat_template_kwargs")
    @classmethod
    def _can_be_stored(cls, value: object) -> object:
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it holds half of a character (a lone surrogate, \\ud800 to \\udfff)") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"it has no form in JSON: {error}") from error
        return value


class Precision(Part):
    """What must agree before anything is timed."""

    parity: Literal["edge_cloud", "per_role", "off"] = Field(
        default="edge_cloud",
        description="`edge_cloud`: edge and cloud have one precision. `per_role`: each role has one "
        "precision in all methods and runs, and the two may differ. `off`: nothing is demanded, and every "
        "table says so.",
    )
    allow_tf32: bool = Field(
        default=False,
        description="Compute float32 products as TF32 where a GPU can. Autocast is never allowed.",
    )


class Memory(Part):
    """How memory is watched."""

    monitor_interval_ms: Annotated[int, Field(ge=20, le=60_000)] = Field(
        default=200,
        description="Time between two readings of the process's memory, and of counters of energy, while "
        "methods run.",
    )


class Profile(Part):
    """Everything that a run depends on. Only the two models have no default."""

    edge: EdgeSpec
    cloud: CloudSpec
    link: LinkSpec = LinkSpec()
    engine: EngineSpec = EngineSpec()
    workload: Workload = Workload()
    decoding: Decoding = Decoding()
    speculative: Speculative = Speculative()
    methods: dict[Name, dict[Name, Any]] = Field(
        default={},
        description="Options of each method's own, by the method's name. `specbench plugins NAME` lists them.",
    )
    precision: Precision = Precision()
    memory: Memory = Memory()
    prices: PriceList = PriceList()
    cluster: ClusterSpec = ClusterSpec()

    @model_validator(mode="after")
    def _one_process_has_one_thread_count(self) -> Profile:
        edge, cloud = self.edge.threads, self.cloud.threads
        if self.cloud.placement != "in_process":
            return self
        if edge is not None and cloud is not None and edge != cloud:
            raise ValueError(
                f"edge.threads is {edge} and cloud.threads is {cloud}, but both models run in one process, "
                "whose threads are shared; give one number"
            )
        return self

    @model_validator(mode="after")
    def _a_small_edge_has_a_process_of_its_own(self) -> Profile:
        for key in ("cpus", "memory_limit"):
            if getattr(self.edge, key) is not None and self.cloud.placement == "in_process":
                raise ValueError(
                    f"edge.{key} confines the process that runs the edge, and with cloud.placement: in_process "
                    "the cloud runs in it too; set cloud.placement=process"
                )
        return self

    @model_validator(mode="after")
    def _packets_need_two_ends(self) -> Profile:
        kind, placement = self.link.kind, self.cloud.placement
        if kind == "emulated" and placement != "process":
            raise ValueError("link.kind: emulated lies between two processes; set cloud.placement=process")
        if kind == "real" and not self.cloud.is_elsewhere:
            raise ValueError(
                "link.kind: real lies between two hosts; cloud.placement is the other one's address"
            )
        return self

    @model_validator(mode="after")
    def _an_answer_may_end(self) -> Profile:
        least, most = self.decoding.min_new_tokens, self.workload.max_new_tokens
        if least > most:
            raise ValueError(
                f"decoding.min_new_tokens is {least}, and workload.max_new_tokens ends an answer at {most}"
            )
        return self

    @model_validator(mode="after")
    def _a_server_of_another_engine_is_greedy(self) -> Profile:
        """It compares top-1 ids and no more, and its link is a real one."""
        if self.cloud.backend != "openai":
            return self
        speculative, plain = self.speculative, Decoding()
        # Which tokens end a text is sent with each request.
        others = self.decoding.beyond("ignore_eos")
        found: dict[str, tuple[object, object]] = {
            **{f"decoding.{name}": (value, getattr(plain, name)) for name, value in others.items()},
            "speculative.verification": (speculative.verification, "greedy"),
            "speculative.gate": (speculative.gate and speculative.gate.measure, None),
            "speculative.window": (speculative.window, 1),
            "speculative.synthetic_acceptance": (speculative.synthetic_acceptance, None),
        }
        for key, (value, only) in found.items():
            if value != only:
                wanted = "null" if only is None else "empty" if only in ((), {}) else only
                raise ValueError(
                    f"cloud.backend: openai is greedy alone; {key} is {value}, and must be {wanted}"
                )
        if self.link.is_set or self.link.kind == "emulated":
            raise ValueError(
                "cloud.backend: openai has a real link, which is measured; drop what is set of link"
            )
        return self

    @property
    def threads(self) -> int | None:
        """Compute threads of the edge's process, or `None` for torch's own choice."""
        if self.cloud.placement != "in_process":
            return self.edge.threads
        return self.edge.threads if self.edge.threads is not None else self.cloud.threads


@dataclass(frozen=True)
class Options:
    """What the profile says about how to decode.

    Args:
        methods: by method, the options of its own that the profile sets.
    """

    decoding: Decoding
    speculative: Speculative
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, profile: Profile) -> Options:
        """The options of a profile."""
        return cls(profile.decoding, profile.speculative, profile.methods)
