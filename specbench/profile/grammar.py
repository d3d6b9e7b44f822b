"""What an answer may be: a JSON schema, a regular expression, or a grammar."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from specbench.profile.part import Part

Source = Annotated[str, StringConstraints(min_length=1)]


class GrammarSpec(Part):
    """Which texts an answer may be. Draft and target then choose among the tokens that it allows."""

    json_schema: dict[str, Any] | None = Field(
        default=None,
        description="JSON schema. `{}` is any JSON value. Keys of `x-guidance` in it decide about white space.",
    )
    regex: Source | None = Field(
        default=None, description="Regular expression that the whole answer matches, in the syntax of Rust."
    )
    lark: Source | None = Field(default=None, description="Context-free grammar, in llguidance's form of Lark.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> GrammarSpec:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("a grammar is exactly one of json_schema, regex and lark")
        return self

    @property
    def definition(self) -> tuple[str, str]:
        """Its kind, and its text; the order of a schema's keys is that of the answer's."""
        for kind in ("regex", "lark"):
            if (text := getattr(self, kind)) is not None:
                return kind, text
        return "json_schema", json.dumps(self.json_schema, ensure_ascii=False)
