"""How tokens are chosen, drafted and verified, and what a method is told of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from specbench.profile.part import Part

LONGEST_DRAFT = 64
LEAST_TEMPERATURE = 1e-6  # logits divided by less overflow in float32, which `model.generate` computes in


class Decoding(Part):
    """How a token is chosen from logits; temperature 0 is greedy. `top_k: 0` and `top_p: 1` are off."""

    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0

    @field_validator("temperature")
    @classmethod
    def _does_not_overflow(cls, value: float) -> float:
        if 0 < value < LEAST_TEMPERATURE:
            raise ValueError(f"Input should be 0 (greedy), or at least {LEAST_TEMPERATURE}: less overflows")
        return value

    @model_validator(mode="after")
    def _greedy_ignores_nothing(self) -> Decoding:
        if self.temperature == 0 and (self.top_p != 1 or self.top_k != 0):
            raise ValueError("top_p and top_k have no effect at temperature 0 (greedy); drop them or raise it")
        return self


class Gate(Part):
    """When the draft is so sure of all its tokens that the round is not verified. Lossy.

    `entropy`: at most `threshold` nats; `margin`: the two highest probabilities are at least so far apart;
    `log_probability`: the token has at least so much, in nats. All at temperature 1 where decoding is greedy.
    """

    measure: Literal["entropy", "margin", "log_probability"]
    threshold: float


class Speculative(Part):
    """How drafted tokens are proposed and verified.

    `draft_length` is 1 to 64 tokens a round, or `auto`: chosen for each round by what its text has shown.
    With `confidence_stop`, a draft ends behind the first token to which it gives a lower probability.
    `rank` is how many of the target's most likely tokens the rule of that name accepts; `typical_epsilon` and
    `typical_delta` are the thresholds of the rule `typical`.
    """

    draft_length: int | Literal["auto"] = 4
    verification: Literal["greedy", "rejection", "one_hot", "block", "coupled", "rank", "typical"] = "greedy"
    gate: Gate | None = None
    confidence_stop: Annotated[float, Field(gt=0, le=1)] | None = None
    rank: Annotated[int, Field(ge=1)] = 20
    typical_epsilon: Annotated[float, Field(gt=0, le=1)] = 0.09
    typical_delta: Annotated[float, Field(gt=0, le=1)] = 0.3

    @field_validator("draft_length", mode="before")
    @classmethod
    def _a_number_or_auto(cls, value: object) -> object:
        # pydantic would report one error for each type of a union, neither of them naming both.
        if value != "auto" and (type(value) is not int or not 1 <= value <= LONGEST_DRAFT):
            raise ValueError(f"Input should be a valid integer from 1 to {LONGEST_DRAFT}, or auto")
        return value
