"""What is wrong where two answers part, as far as the answers themselves tell it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from specbench.servers.answers import Completion, Token
from specbench.stats.repetition import is_loop

BEHIND_STOP = "goes on behind the stop token"
CUT = "ends before its budget, without a stop token"
MISSING = "leaves out a token (a dropped bonus token?)"
DOUBLED = "says a token twice (a doubled bonus token?)"
LOOP = "repeats a phrase over and over"
EARLIER_REQUESTS = "is right where it takes nothing from its prefix cache: a cache reused across prompts"
STATE = (
    "gives the reference's token where the text so far is sent anew: its state while decoding is wrong "
    "(KV cache or acceptance after a refusal?)"
)
MODEL = "gives the same token where the text so far is sent anew: other weights, precision or rule"
REFERENCE = (
    "gives what the reference itself prefers where the text so far is sent anew: the reference's state while "
    "decoding is wrong"
)
ALIKE = 0.5  # of two answers, where single tokens are left out or doubled


def of_shape(theirs: Completion, ours: Completion, place: int) -> str | None:
    """What the shape of two answers tells, tokens known."""
    left, right = theirs.tokens or (), ours.tokens or ()
    if place == len(right) and ours.finish_reason not in ("stop", "eos"):
        return CUT
    if place == len(left):
        return None
    edits = _edits(left, right)
    if edits and all(not new and len(old) == 1 for old, new, _ in edits):
        return MISSING
    if edits and all(not old and len(new) == 1 and new[0] in beside for old, new, beside in edits):
        return DOUBLED
    return LOOP if _loops(right) and not _loops(left) else None


def of_text(theirs: Completion, ours: Completion, place: int) -> str | None:
    """The same where texts alone are known."""
    if place == len(theirs.text) and theirs.finish_reason == "stop":
        return BEHIND_STOP
    if place == len(ours.text) and ours.finish_reason not in ("stop", "eos"):
        return CUT
    return LOOP if _loops(tuple(ours.text)) and not _loops(tuple(theirs.text)) else None


def loops(completion: Completion) -> bool:
    """Whether an answer repeats itself."""
    return _loops(completion.tokens or tuple(completion.text))


def _edits(
    left: Sequence[Token], right: Sequence[Token]
) -> list[tuple[Sequence[Token], Sequence[Token], Sequence[Token]]]:
    """What is replaced by what, and the tokens on either side of it; nothing where less than half is alike.

    What touches the end of an answer is left out: the budget cuts it there.
    """
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    if matcher.ratio() < ALIKE:
        return []
    return [
        (left[i:j], right[k:m], (*right[max(k - 1, 0) : k], *right[m : m + 1]))
        for kind, i, j, k, m in matcher.get_opcodes()
        if kind != "equal" and j < len(left) and m < len(right)
    ]


def _loops(said: Sequence[Token]) -> bool:
    numbers = {token: index for index, token in enumerate(dict.fromkeys(said))}
    return is_loop([numbers[token] for token in said])
