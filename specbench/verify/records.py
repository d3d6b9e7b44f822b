"""What a server said, and what was found of it: frozen dataclasses, as they are stored and printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Token: TypeAlias = int | str
"""An id; or the text of one token, where a server tells no ids."""
Prompt: TypeAlias = tuple[int, ...] | str

SAME, TIE, DIFFERS, UNPROVEN = "same", "tie", "differs", "unproven"
VERDICTS = (SAME, TIE, DIFFERS, UNPROVEN)


@dataclass(frozen=True)
class Part:
    """One event of a stream.

    Args:
        at_ms: when it came, since the request was sent.
        tokens: how many tokens it brought; `None` where the server does not say.
        pass_number: the server's pass that made them; parts of one pass share it. `None` where it is unknown.
        accepted: drafted tokens accepted so far, as the server counts.
    """

    at_ms: float
    tokens: int | None
    pass_number: int | None = None
    accepted: int | None = None


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Args:
        tokens: what was said, the stop token included where the server tells it; `None`: text alone is known.
        finish_reason: `stop`, `length`, or the server's own word.
        top: the most likely tokens in the place of each said token, with their log-probabilities.
        drafted: tokens that the server says it drafted, and `accepted` of them; `passes` is its number of
            verifications. `None` where it does not say.
        parts: how it came, where it was streamed.
    """

    text: str
    finish_reason: str | None
    tokens: tuple[Token, ...] | None = None
    top: tuple[dict[Token, float], ...] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    drafted: int | None = None
    accepted: int | None = None
    passes: int | None = None
    draft_limit: int | None = None
    total_ms: float = 0.0
    parts: tuple[Part, ...] = ()

    @property
    def said(self) -> int | None:
        """How many tokens were said."""
        return len(self.tokens) if self.tokens is not None else self.completion_tokens


@dataclass(frozen=True)
class Facts:
    """What a server is, and what it can be asked.

    Args:
        kind: of its interface, as of `--server`.
        model: what it calls its model.
        speaks_ids: prompts are sent, and answers told, as token ids.
        tops: log-probabilities of how many tokens a place can be asked for; 0 where they are not given.
        experimental: this interface was never tried on a real server by specbench's authors.
        missing: what it cannot give, and what that weakens.
    """

    url: str
    kind: str
    model: str
    version: str | None
    speaks_ids: bool
    tops: int
    experimental: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Two answers to one prompt.

    Args:
        position: of the first difference, in tokens; in characters where no tokens are known.
        tokens: the reference's there and the server's; `None` where one has ended.
        margin: how much more likely the reference holds its own token (difference of log-probabilities).
        noise: how much such a margin moves where the reference computes it twice.
        cause: what is wrong, where that can be told.
    """

    prompt_id: str
    verdict: str
    position: int | None = None
    tokens: tuple[Token | None, Token | None] = (None, None)
    margin: float | None = None
    noise: float | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Steadiness:
    """One server against itself: the same request again.

    Args:
        differ: prompts whose answers are not all alike, of `asked`.
    """

    url: str
    asked: int
    times: int
    differ: int


@dataclass(frozen=True)
class Shift:
    """One comparison of samples.

    Args:
        of: what was compared with what.
        samples: of each side.
        p_value: of the G-test that nothing differs, corrected over all comparisons (Holm).
        distance: total variation between what was seen and what was expected.
        detectable: total variation that would have been found with 95 %.
        cause: what the shift looks like, where there is one.
    """

    of: str
    samples: int
    p_value: float
    distance: float
    detectable: float
    found: bool
    cause: str | None = None


@dataclass(frozen=True)
class Speed:
    """One server's times, and its ratio to the reference.

    Args:
        ratio: of time per output token, geometric means; above 1 is faster than the reference.
    """

    url: str
    ttft_ms: float | None
    tpot_ms: float | None
    tokens_per_s: float | None
    ratio: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Acceptance:
    """Acceptance as a server reports it, in our definitions.

    Args:
        rate: accepted / drafted tokens; the bonus token is neither.
        length: tokens said per verification, the bonus token included.
        conversion: how both come from what the server said.
        contradictions: where its own figures cannot all be true.
    """

    url: str
    drafted: int
    accepted: int
    passes: int | None
    rate: float | None
    length: float | None
    conversion: str
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """What a verification asks.

    Args:
        samples: drawn from each of a few prefixes, for the distribution; 0 leaves it out.
        temperature: of the samples.
    """

    max_new_tokens: int = 64
    samples: int = 0
    temperature: float = 0.7
    seed: int = 0


@dataclass
class Result:
    """All that was found, filled while it is found.

    Args:
        against: `None` where the server is held against itself.
        compared: `token ids`, `tokens` or `text`.
        noise: of the reference's margins, in log-probability; `None` where it gives none.
        faults: of sanity, such as another chat template, or a loop that the reference does not make.
        warnings: what to know that is no fault.
        stopped: why it ended early, if it did.
    """

    verify_id: str
    started_at: str
    server: Facts
    against: Facts | None
    settings: dict[str, object]
    compared: str = ""
    noise: float | None = None
    statement: str = ""
    steadiness: list[Steadiness] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    acceptance: list[Acceptance] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    retries: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    schema_version: int = 1

    def count(self, verdict: str) -> int:
        """How many prompts have this verdict."""
        return sum(each.verdict == verdict for each in self.verdicts)
