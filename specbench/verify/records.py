"""What was found of a server, as it is stored and printed."""

from __future__ import annotations

from dataclasses import dataclass, field

from specbench.servers.answers import Facts, Token

SAME, TIE, DIFFERS, UNPROVEN = "same", "tie", "differs", "unproven"
VERDICTS = (SAME, TIE, DIFFERS, UNPROVEN)


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
class Load:
    """One server with several requests under way.

    Args:
        tokens_per_s: of all of them together.
        differ: prompts that it answers otherwise than when it is asked alone.
    """

    url: str
    concurrency: int
    ttft_ms: float | None
    tpot_ms: float | None
    tokens_per_s: float
    differ: int


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
        concurrency: requests under way at a time, where speed is also measured under load; 1 leaves it out.
    """

    max_new_tokens: int = 64
    samples: int = 0
    temperature: float = 0.7
    seed: int = 0
    concurrency: int = 1


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
    loads: list[Load] = field(default_factory=list)
    acceptance: list[Acceptance] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    retries: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    schema_version: int = 1

    @property
    def all_faults(self) -> list[str]:
        """Those of sanity, and where a server's own figures cannot all be true."""
        return [
            *self.faults,
            *(f"{each.url}: {line}" for each in self.acceptance for line in each.contradictions),
        ]

    def count(self, verdict: str) -> int:
        """How many prompts have this verdict."""
        return sum(each.verdict == verdict for each in self.verdicts)
