"""How tokens are chosen, drafted and verified, and what a method is told of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from specbench.profile.part import Part
from specbench.results.records import SYNTHETIC

LONGEST_DRAFT = 64
WIDEST_WINDOW = 32
LEAST_TEMPERATURE = 1e-6  # logits divided by less overflow in float32, which `model.generate` computes in

TokenId = Annotated[int, Field(ge=0)]
Bias = Annotated[float, Field(ge=-100, le=100)]
OutputPenalty = Annotated[float, Field(ge=-2, le=2)]
StopString = Annotated[str, StringConstraints(min_length=1)]
UNREADABLE = "\ufffd"
"""What a tokenizer writes for bytes that are no character."""


class Decoding(Part):
    """How a token is chosen from logits."""

    temperature: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0, description="0 is greedy. Values between 0 and 1e-6 overflow and are refused."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Sample from the most probable tokens that make up this probability. 1 is off, and the "
        "only value at temperature 0.",
    )
    top_k: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Sample from this many most probable tokens. 0 is off, and the only value at "
        "temperature 0.",
    )
    min_p: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Sample from the tokens that have at least this share of the most probable one's "
        "probability; comes before top_k and top_p, as in vLLM. 0 is off, and the only value at temperature 0.",
    )
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = Field(
        default=1.0,
        description="Lowers the logits of tokens that the text already has, as in transformers. 1 is off.",
    )
    presence_penalty: OutputPenalty = Field(
        default=0.0, description="Subtracted from the logits of tokens that the answer already has. 0 is off."
    )
    frequency_penalty: OutputPenalty = Field(
        default=0.0,
        description="Subtracted from a token's logit for each time that the answer already has it. 0 is off.",
    )
    logit_bias: dict[TokenId, Bias] = Field(
        default={}, description="Added to the logits, by token id of the target: `{42: -100}`."
    )
    min_new_tokens: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Tokens of an answer before which neither a stop token nor a stop string ends it.",
    )
    ignore_eos: bool = Field(
        default=False,
        description="Let the model's stop tokens end nothing. Stop strings and the budget still do.",
    )
    stop: tuple[StopString, ...] = Field(
        default=(),
        description="Texts that end an answer. It is cut before the first of them; the token that completes it "
        "is the last one counted.",
    )

    def __hash__(self) -> int:
        """Of all values: a mapping has no hash of its own."""
        return hash(self.model_dump_json())

    def beyond(self, *names: str) -> dict[str, object]:
        """Settings that are not at their defaults, but for those named: what somebody else must know of."""
        plain = Decoding()
        found = {name: getattr(self, name) for name in type(self).model_fields if name not in names}
        return {name: value for name, value in found.items() if value != getattr(plain, name)}

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _ids_may_be_text(cls, value: object) -> object:
        # Keys of a JSON object are texts.
        if not isinstance(value, dict):
            return value
        found: dict[object, object] = {}
        for key, bias in value.items():
            token = int(key) if isinstance(key, str) and key.isdecimal() else key
            if token in found:
                raise ValueError(f"token {token} has two biases, {found[token]} and {bias}")
            found[token] = bias
        return found

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("stop")
    @classmethod
    def _can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(UNREADABLE in text for text in value):
            raise ValueError("a stop string holds U+FFFD, which stands for bytes that are no character")
        return value

    @field_validator("temperature")
    @classmethod
    def _does_not_overflow(cls, value: float) -> float:
        if 0 < value < LEAST_TEMPERATURE:
            raise ValueError(f"Input should be 0 (greedy), or at least {LEAST_TEMPERATURE}: less overflows")
        return value

    @model_validator(mode="after")
    def _greedy_ignores_nothing(self) -> Decoding:
        if self.temperature == 0 and (self.top_p != 1 or self.top_k != 0 or self.min_p != 0):
            raise ValueError(
                "top_p, top_k and min_p have no effect at temperature 0 (greedy); drop them or raise it"
            )
        return self


class Gate(Part):
    """When the draft is so sure of all its tokens that the round is not verified. Lossy."""

    measure: Literal["entropy", "margin", "log_probability"] = Field(
        description="What is measured of the draft's distribution, at temperature 1 where decoding is "
        "greedy: its entropy, the distance of the two highest probabilities, or the log-probability of the "
        "drafted token."
    )
    threshold: float = Field(
        description="Entropy at most this, margin or log-probability at least this. In nats, except for "
        "`margin`."
    )


class Speculative(Part):
    """How drafted tokens are proposed and verified."""

    draft_length: int | Literal["auto"] = Field(
        default=4,
        description=f"Tokens that are drafted in a round, 1 to {LONGEST_DRAFT}. `auto` chooses before each "
        "round, from the acceptance and times of this text so far.",
    )
    window: int | Literal["auto"] = Field(
        default=1,
        description=f"Proposals in flight at once, 1 to {WIDEST_WINDOW}. With 1 the edge waits for every "
        "verdict. `auto` chooses after each verdict, from the acceptance and times of this text so far.",
    )
    verification: Literal["greedy", "rejection", "one_hot", "block", "coupled", "rank", "typical"] = Field(
        default="greedy", description="Verification rule. `rank` and `typical` are lossy."
    )
    gate: Gate | None = Field(
        default=None,
        description="Commit a draft without verification when the draft model is sure of every token. Lossy.",
    )
    confidence_stop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="End a draft behind the first token to which the draft model gives a lower probability. "
        "Lossless.",
    )
    synthetic_acceptance: (
        Annotated[
            tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1, max_length=LONGEST_DRAFT)
        ]
        | None
    ) = Field(
        default=None,
        description="Accept drafted tokens by chance, whatever they are: 0.8, or [0.9, 0.7] for the first, the "
        "second and all later ones, given that those before were accepted. Draft and verification are "
        "computed, so times are real. Texts are not, and everything is labelled `synthetic`.",
    )
    cross_vocabulary: Literal["tli", "slem", False] = Field(
        default=False,
        description="Where the vocabularies of edge and cloud differ: `tli` (or `true`) drafts the tokens that "
        "both have, `slem` drafts text that the target's tokenizer reads. `false` refuses the pair.",
    )
    rank: Annotated[int, Field(ge=1)] = Field(
        default=20, description="How many of the target's most probable tokens the rule `rank` accepts."
    )
    typical_epsilon: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.09, description="ε of the rule `typical`."
    )
    typical_delta: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.3, description="δ of the rule `typical`."
    )

    @property
    def rule(self) -> str:
        """What accepts drafted tokens, as records name it: the verification rule, or `SYNTHETIC`."""
        return self.verification if self.synthetic_acceptance is None else SYNTHETIC

    @field_validator("cross_vocabulary", mode="before")
    @classmethod
    def _true_is_tli(cls, value: object) -> object:
        return "tli" if value is True else value

    @field_validator("synthetic_acceptance", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        if isinstance(value, list):
            return tuple(value)
        return (value,) if isinstance(value, (int, float, str)) else value

    @field_validator("draft_length", "window", mode="before")
    @classmethod
    def _a_number_or_auto(cls, value: object, field: ValidationInfo) -> object:
        # pydantic would report one error for each type of a union, neither of them naming both.
        most = WIDEST_WINDOW if field.field_name == "window" else LONGEST_DRAFT
        if value != "auto" and (type(value) is not int or not 1 <= value <= most):
            raise ValueError(f"Input should be a valid integer from 1 to {most}, or auto")
        return value
