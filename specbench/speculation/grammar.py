"""Grammars of answers: which tokens may come next, by llguidance (`[grammar]`), for draft and target alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, cast

from specbench.errors import ExitCode, SpecbenchError, first_line

if TYPE_CHECKING:
    import numpy as np
    import torch
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer
    from transformers import PreTrainedTokenizerBase

KINDS = ("json_schema", "regex", "lark")
MOST_CHARACTERS = 1 << 18  # of a grammar
MOST_COMPILED = 256  # grammars that are kept; a run of more compiles some of them again, off the clock


@dataclass(frozen=True)
class Grammar:
    """What an answer may be, and the tokens that it is written in.

    Args:
        kind: one of `KINDS`.
        text: of the schema, the expression or the grammar.
        stop_ids: tokens of which one ends a complete answer.
    """

    kind: str
    text: str
    stop_ids: frozenset[int]
    tokenizer: PreTrainedTokenizerBase = field(compare=False, repr=False)

    def constraint(self) -> Constraint:
        """A new text's place in the grammar.

        Raises:
            SpecbenchError: the grammar cannot be compiled, or not for this tokenizer.
        """
        matcher = _compiled(self.kind, self.text, self.stop_ids, self.tokenizer)
        size = _reader(self.stop_ids, self.tokenizer).vocab_size
        return Constraint(matcher.deep_copy(), self.stop_ids, size)


class Constraint:
    """A grammar along one text, which may be taken back and go on otherwise: any prefix can be asked about.

    An answer that has ended, or that the grammar does not allow, has nothing behind it: there all tokens are
    allowed. Such a prefix is a draft that the target refuses before it comes so far.
    """

    def __init__(self, matcher: LLMatcher, stop_ids: frozenset[int], size: int) -> None:
        self._matcher, self._stop_ids, self._size = matcher, stop_ids, size
        self._read: list[int] = []
        self._known: np.ndarray | None = None  # what may follow those

    def allowed(self, answer: Sequence[int]) -> np.ndarray | None:
        """Whether each token may follow, bool of at least the vocabulary's size; `None` where all may."""
        import numpy as np

        if not self._follow(answer):
            return None
        if self._known is None:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            self._demand_well()
            self._known = np.unpackbits(bits, bitorder="little").astype(bool)
        return self._known

    def forced(self, answer: Sequence[int]) -> int | None:
        """The one token that may follow; `None` where there is a choice."""
        allowed = self.allowed(answer)
        if allowed is None:
            return None
        ids = allowed.nonzero()[0]
        return int(ids[0]) if len(ids) == 1 else None

    def applied(self, logits: torch.Tensor, answer: Sequence[int], following: Sequence[int]) -> torch.Tensor:
        """Logits without the tokens that the grammar forbids.

        A draft with a small vocabulary may have none of those that are allowed. It then keeps its own, for the
        target to refuse.

        Args:
            logits: shape (rows, vocabulary); row i is conditioned on `answer` and the first i of `following`.
        """
        import torch

        masked, width = logits.clone(), min(logits.shape[1], self._size)
        for index, row in enumerate(masked):
            allowed = self.allowed([*answer, *following[:index]])
            if allowed is None:
                continue
            forbidden = torch.ones_like(row, dtype=torch.bool)
            forbidden[:width] = torch.from_numpy(~allowed[:width])
            if row[~forbidden].isfinite().any():
                row[forbidden] = -torch.inf
        return masked

    def is_complete(self, answer: Sequence[int]) -> bool:
        """Whether an answer, with or without a stop token behind it, is one that the grammar describes."""
        text = answer[:-1] if answer and answer[-1] in self._stop_ids else answer
        return self._follow(text) and self._matcher.is_accepting()

    def takes(self, answer: Sequence[int]) -> bool:
        """Whether the grammar allows an answer so far."""
        is_ended = bool(answer) and answer[-1] in self._stop_ids
        return self.is_complete(answer) if is_ended else self._follow(answer)

    def _follow(self, answer: Sequence[int]) -> bool:
        """Bring the matcher behind an answer, as far as that goes; whether it got there."""
        kept = len(self._read)
        if self._read != list(answer[:kept]):
            pairs = zip(self._read, answer, strict=False)
            kept = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), len(answer))
            self._matcher.rollback(len(self._read) - kept)
            self._known = None
            del self._read[kept:]
        added = list(answer[kept:])
        if not added:
            return True
        if not self._stop_ids.isdisjoint(added) or max(added) >= self._size:
            return False
        self._known = None
        self._read += added[: self._matcher.try_consume_tokens(added)]
        self._demand_well()
        return len(self._read) == len(answer)

    def _demand_well(self) -> None:
        if self._matcher.is_error():
            raise SpecbenchError(
                f"the grammar of an answer cannot be followed: {_line(self._matcher.get_error())}",
                "use a grammar with fewer alternatives",
                ExitCode.RUN,
            )


def obstacle_to(kind: str, text: str) -> str | None:
    """Why a grammar is none; `None` where it is one.

    Raises:
        SpecbenchError: llguidance is not installed.
    """
    demand_llguidance()
    from llguidance import LLMatcher

    try:
        is_wrong, found = LLMatcher.validate_grammar_with_warnings(_source(kind, text), limits=_limits())
    except ValueError as error:
        return first_line(error)
    return _line(found[0]) if is_wrong else None


def demand_llguidance() -> str:
    """The version of llguidance.

    Raises:
        SpecbenchError: it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llguidance")
    except PackageNotFoundError as error:
        raise SpecbenchError(
            "a grammar needs llguidance, which is not installed", "pip install 'specbench[grammar]'"
        ) from error


def _line(text: str) -> str:
    """What llguidance says, in a line, without the drawing that a parser puts in its middle."""
    first, *others = text.strip().splitlines()
    reasons = [line.removeprefix("error: ") for line in others if line.startswith("error: ")]
    return " ".join([first, *reasons[:1]])


def _source(kind: str, text: str) -> str:
    """A grammar as llguidance reads it.

    Raises:
        ValueError: it is too long, or a schema and no JSON object.
    """
    from llguidance import LLMatcher

    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, and at most {MOST_CHARACTERS} are read")
    if kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(text)
    return LLMatcher.grammar_from_regex(text) if kind == "regex" else LLMatcher.grammar_from_lark(text)


@cache
def _limits() -> LLParserLimits:
    from llguidance import LLParserLimits

    return LLParserLimits(verbose_errors=False)


@lru_cache(maxsize=4)
def _reader(stop_ids: frozenset[int], tokenizer: PreTrainedTokenizerBase) -> LLTokenizer:
    """The tokenizer as llguidance reads it.

    Raises:
        SpecbenchError: it is of a kind that llguidance does not read, or no token ends a text.
    """
    demand_llguidance()
    from llguidance.hf import from_tokenizer

    known = sorted(token for token in stop_ids if token < len(tokenizer))
    if not known:
        raise SpecbenchError(
            "an answer by a grammar ends with a stop token, and there is none",
            "name a model that has one, and leave decoding.ignore_eos false",
        )
    try:
        return from_tokenizer(cast(Any, tokenizer), eos_token=known)  # it refuses other kinds itself
    except ValueError as error:
        raise SpecbenchError(
            f"llguidance cannot read the target's tokenizer: {first_line(error)}",
            "leave the grammar out, or name a target with a byte-level tokenizer",
            ExitCode.MODEL,
        ) from error


@lru_cache(maxsize=MOST_COMPILED)
def _compiled(kind: str, text: str, stop_ids: frozenset[int], tokenizer: PreTrainedTokenizerBase) -> LLMatcher:
    from llguidance import LLMatcher

    reader = _reader(stop_ids, tokenizer)
    try:
        matcher = LLMatcher(reader, _source(kind, text), log_level=0, limits=_limits())
        reason = matcher.get_error() if matcher.is_error() else None
    except ValueError as error:
        reason = str(error)
    if reason:
        raise SpecbenchError(f"the grammar is not valid: {_line(reason)}", "correct it", ExitCode.PROFILE)
    return matcher
