"""What every round keeps, whatever its method: of which types its figures are, and which go together."""

from __future__ import annotations

import math
from dataclasses import fields

from specbench.results.records import Round

COUNTS = tuple(field.name for field in fields(Round) if field.type == "int | None")
TIMES = tuple(field.name for field in fields(Round) if field.type == "float | None")


def broken_promise(part: object) -> str | None:
    """What is wrong with a round by itself, as words behind "it"; `None` where all is well."""
    if not isinstance(part, Round):
        return f"yielded a {type(part).__name__}, and no Round"
    if not part.tokens:
        return "yielded a round without tokens"
    ids = (*part.tokens, *(part.refused or ()))
    if not all(type(token) is int for token in ids):
        strange = next(token for token in ids if type(token) is not int)
        return f"yielded token ids that are no Python ints, but of type {type(strange).__name__}"
    if min(part.tokens) < 0:
        return f"yielded the token id {min(part.tokens)}"
    for name in COUNTS:
        value = getattr(part, name)
        if value is not None and (type(value) is not int or value < 0):
            return f"yielded a round whose {name} is {value!r}, and no count"
    for name in TIMES:
        value = getattr(part, name)
        if value is not None and (type(value) not in (float, int) or not math.isfinite(value)):
            return f"yielded a round whose {name} is {value!r}, and no time in milliseconds"
    if (part.accepted or 0) > (part.drafted or 0):
        return f"accepted {part.accepted} of {part.drafted} drafted tokens"
    if (part.accepted or 0) > len(part.tokens):
        return f"accepted {part.accepted} drafted tokens and committed {len(part.tokens)}"
    if part.depth is not None and not (part.accepted or 0) <= part.depth <= (part.drafted or 0):
        return f"accepted {part.accepted} of {part.drafted} drafted tokens, and its depth is {part.depth}"
    return None
