"""What is measured and kept: frozen dataclasses, standard library only.

A figure that is unknown or does not apply is `None`, never zero. Durations are milliseconds of a
monotonic clock; token counts are counts of committed ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Prompt:
    """One question: its turns are asked one after the other, each with the conversation so far."""

    prompt_id: str
    category: str
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """What one step of a method committed, and what it cost.

    The first round of a generation commits the target's first token (prefill); it drafts nothing.
    `accepted` counts drafted tokens that were verified and committed: neither the bonus token nor a
    correction, nor anything behind a stop token.
    """

    tokens: tuple[int, ...]
    drafted: int | None = None
    accepted: int | None = None
    draft_ms: float | None = None
    uplink_ms: float | None = None
    verify_ms: float | None = None
    downlink_ms: float | None = None
    wait_ms: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    wasted_draft_tokens: int | None = None


@dataclass(frozen=True)
class Generation:
    """One request answered by one method: one turn of one prompt.

    Args:
        turn: which turn this answers, from 0, of the prompt's `turns`.
        prompt_sha256: hash of the prompt's token ids; generations are compared only where it is equal.
        arrival_ms: when each round arrived, since the request was handed to the method.
        finish_reason: `stop` (a stop token ends the text) or `length` (the budget is spent).
        peak_rss_bytes: highest resident size of the process seen during this generation. Methods that
            are interleaved share the process.
    """

    method: str
    prompt_id: str
    category: str
    turn: int
    turns: int
    repeat: int
    prompt_tokens: int
    prompt_sha256: str
    text: str
    finish_reason: str
    rounds: tuple[Round, ...]
    arrival_ms: tuple[float, ...]
    peak_rss_bytes: int | None = None
    peak_cuda_bytes: int | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> tuple[str, int, int]:
        """Pairs this generation with that of another method: prompt, turn, repeat."""
        return self.prompt_id, self.turn, self.repeat

    @property
    def tokens(self) -> tuple[int, ...]:
        """All committed token ids, the stop token included."""
        return tuple(token for part in self.rounds for token in part.tokens)

    @property
    def ttft_ms(self) -> float:
        """Time to first token: from the request to the first committed chunk."""
        return self.arrival_ms[0]

    @property
    def total_ms(self) -> float:
        """From the request to the last committed token."""
        return self.arrival_ms[-1]

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first chunk; `None` when nothing follows it."""
        following = len(self.tokens) - len(self.rounds[0].tokens)
        return (self.arrival_ms[-1] - self.arrival_ms[0]) / following if following else None

    @property
    def drafted(self) -> int | None:
        """Tokens that were drafted and sent to verification."""
        return _sum_known(part.drafted for part in self.rounds)

    @property
    def accepted(self) -> int | None:
        """Drafted tokens that were verified and committed."""
        return _sum_known(part.accepted for part in self.rounds)


@dataclass(frozen=True)
class Divergence:
    """Where a lossless method first departs from the control on the same prompt.

    `top2_margin` is the distance between the control's two highest logits at that position: near zero
    for a tie that a different order of additions may flip. `tokens` hold the control's id, then the
    method's; an id is `None` where that text had ended.
    """

    method: str
    prompt_id: str
    turn: int
    repeat: int
    position: int
    tokens: tuple[int | None, int | None]
    top2_margin: float | None


@dataclass(frozen=True)
class Failure:
    """A method that stopped with an error; what it had finished is kept."""

    method: str
    prompt_id: str | None
    error: str


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one kind that share a dtype: how many, how large, and the first one's name."""

    dtype: str
    tensors: int
    bytes: int
    first: str


@dataclass(frozen=True)
class Audit:
    """What precision one role really has, tensor by tensor.

    `cache` and `logits` come from a real forward pass; `stored` is what the weights were kept as on
    disk, which may be narrower than what they are computed in. `vocabulary_size` counts the tokens that the
    model can say, fewer than the target's for a draft with a vocabulary of its own.
    """

    role: str
    model: str
    device: str
    declared: str
    vocabulary_size: int
    parameters: tuple[TensorGroup, ...]
    buffers: tuple[TensorGroup, ...]
    logits: str
    cache: tuple[TensorGroup, ...]
    stored: tuple[str, ...]
    problem: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything that a run depends on, written before its first generation and closed after its last.

    `profile` is the whole resolved profile; `engines` says, by role, which engine a model really had: one that
    cannot be compiled runs eagerly. `models` holds, by role, the SHA-256 of every file. `--resume`
    goes on only where these, the prompts, the versions and the machine are the same.
    """

    run_id: str
    profile_name: str
    profile: dict
    methods: tuple[str, ...]
    lossless: dict[str, bool | None]
    prompt_ids: tuple[str, ...]
    prompts_sha256: str
    started_at: str
    command: tuple[str, ...]
    versions: dict[str, str]
    plugins: dict[str, str]
    machine: dict[str, str | int | None]
    threads: int
    models: dict[str, dict]
    engines: dict[str, str] = field(default_factory=dict)
    status: str = "running"
    finished_at: str | None = None
    precision_problems: tuple[str, ...] = ()
    audits: tuple[Audit, ...] = ()
    failures: tuple[Failure, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Run:
    """A stored run: its manifest and the generations that finished."""

    manifest: Manifest
    generations: tuple[Generation, ...]


@dataclass(frozen=True)
class MethodSummary:
    """One row of the result table; how each column is defined stands in the README."""

    method: str
    lossless: bool | None
    generations: int
    tokens: int
    ttft_ms: float | None
    tpot_ms: float | None
    tokens_per_second: float | None
    acceptance_rate: float | None
    acceptance_length: float | None
    speedup_vs_control: float | None
    speedup_vs_cloud_baseline: float | None
    exact_match: float | None
    peak_rss_bytes: int | None
    peak_cuda_bytes: int | None


@dataclass(frozen=True)
class Comparison:
    """Runs put side by side, or the reasons why they may not be."""

    profile: str
    runs: tuple[str, ...]
    control: str | None
    setting: str
    methods: tuple[MethodSummary, ...]
    divergences: tuple[Divergence, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


def _sum_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
