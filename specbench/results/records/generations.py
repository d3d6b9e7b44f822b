"""A prompt, and what a method answered to it, round by round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from specbench.results.records.energy import EnergyUse

SCHEMA_VERSION = 2
SYNTHETIC = "synthetic"
"""In place of a verification rule: chance accepted what was drafted (`speculative.synthetic_acceptance`)."""


@dataclass(frozen=True)
class Task:
    """What the last answer to a prompt is checked for.

    Args:
        score: `number` (its last number is the answer), `contains` (it holds the answers), `json` (it is an
            object or an array) or `schema` (it is JSON that a schema allows).
        answers: the number as text, or texts; none for `json`, and a JSON schema for `schema`.
    """

    score: str
    answers: tuple[str, ...] = ()


MediaKind = Literal["image", "audio"]


@dataclass(frozen=True)
class PromptFile:
    """An image or a sound that a turn shows before its text.

    Args:
        turn: from 0.
        kind: what is in the file.
        sha256: of what is in the file.
        path: where it lies; `None` in a manifest, which keeps no paths.
    """

    turn: int
    kind: MediaKind
    sha256: str
    path: str | None = None


@dataclass(frozen=True)
class Prompt:
    """One question: its turns are asked one after the other, each with the conversation so far.

    `references` holds the accepted answers of each turn, none where a turn has no known answer.

    Args:
        system: the system message, in place of the profile's; an empty one is none.
        prefill: the beginning of each answer, in place of the profile's.
        raw: ask without a chat template, or with one, whatever the profile says.
        chat_template_kwargs: variables of the template, `tools` among them; beside those of the profile.
        task: what its last answer is checked for, where that can be.
        grammar: what each answer may be, in place of the profile's, as `GrammarSpec` has it; empty for any
            text.
        files: images and sounds, at most one for each turn, in their order. The text of such a turn may be
            empty.
    """

    prompt_id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[tuple[str, ...], ...] = ()
    system: str | None = None
    prefill: str | None = None
    raw: bool | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)
    task: Task | None = None
    grammar: dict[str, Any] | None = field(default=None, hash=False)
    files: tuple[PromptFile, ...] = ()


@dataclass(frozen=True)
class Round:
    """What one round committed, and what it cost: the target makes it, and the loop adds what drafting took.

    The first round of a generation commits the target's first token (prefill); it drafts nothing.

    Args:
        tokens: committed ids, at least one.
        finish_reason: `stop`, `length`, or `None` while the sequence goes on.
        drafted: tokens that were sent to verification.
        draft_ms: time of the drafter: proposing, and taking over the verdict; in the first round the prompt.
        accepted: drafted tokens that were verified and committed: neither the bonus token nor a correction, nor
            anything behind a stop token.
        depth: drafted tokens of the longest path where the draft is a tree; a chain leaves it out, for that is
            `drafted`.
        verify_ms: time the target computed, measured where it runs; in a shared pass with all of `pass_ms`.
        uplink_ms: the way to the target, `downlink_ms` the way back, as a modelled link delays them. Unknown
            over any other link, for two clocks are never compared.
        rtt_ms: the round trip beyond the target's own work, measured: from sending to the answer, less what the
            target spent on it by its own clock. Unknown where the answer lay here before anybody looked. A
            server of another engine does not tell its own work: there it is the round trip of a question that
            computes nothing, measured before the run.
        streamed: the round came as a part of a stream; nobody asked for it, or waited for its way here.
        wait_ms: how long the edge waited for this with nothing else to do.
        bytes_up: of the encoded frame that asked; `bytes_down` of the one that answered.
        feature_bytes: of `bytes_down`, the hidden states of the target that it carried for the draft.
        wasted_draft_tokens: tokens drafted ahead of the verdict that it made void.
        unverified: drafted tokens that a gate let pass.
        prefilled: tokens that the target read for it where that is not what its cache lacks alone: the whole
            sequence where it keeps no cache between rounds, prompt and draft where it reads both in one pass,
            what a server of another engine says that it read.
        shared: sequences that shared the target's pass; `pass_ms` is what the pass took for all of them.
        pass_tokens: tokens of the sequence that the target's pass read, where proposals were in flight. Those
            that share a pass have it in the first round, with `verify_ms`; the others have 0.
        epoch: with proposals in flight, how many refusals lie before this round.
        wasted_bytes: of frames, both ways, about proposals in flight that this round's refusal, or an earlier
            one, made void; counted when they are known.
        wasted_verify_ms: share of the target's pass for proposals that it read and a refusal before them made
            void; those that arrive behind a refusal are dropped unread and cost nothing.
        ready_draft_tokens: tokens of the next proposal that were drafted ahead and stand by this verdict.
        choice: of a method that chooses in each round, what it chose: `alone`, `round` (one proposal, and its
            verdict waited for), `window`, `tree` or `lookup` (a draft from the sequence itself).
        forced: of `drafted`, tokens beside which the grammar of the answer allows no other; `forced_accepted`
            of `accepted`. A draft model takes no step for them. `None` without a grammar.
        replayed_tokens: tokens that the target's pass read for the second time, where its state is restored and
            not cut; `snapshot_bytes` were copied to keep states and to restore them. The draft's own copies
            are a part of `draft_ms`.
        refused: ids that were drafted behind the accepted ones and refused; of a tree, those that could have
            followed the accepted path. Unknown where another process drafted.
    """

    tokens: tuple[int, ...]
    finish_reason: str | None = None
    drafted: int | None = None
    accepted: int | None = None
    depth: int | None = None
    draft_ms: float | None = None
    uplink_ms: float | None = None
    verify_ms: float | None = None
    downlink_ms: float | None = None
    wait_ms: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    wasted_draft_tokens: int | None = None
    unverified: int | None = None
    prefilled: int | None = None
    rtt_ms: float | None = None
    streamed: bool = False
    shared: int | None = None
    pass_ms: float | None = None
    pass_tokens: int | None = None
    epoch: int | None = None
    wasted_bytes: int | None = None
    wasted_verify_ms: float | None = None
    ready_draft_tokens: int | None = None
    choice: str | None = None
    feature_bytes: int | None = None
    forced: int | None = None
    forced_accepted: int | None = None
    replayed_tokens: int | None = None
    snapshot_bytes: int | None = None
    refused: tuple[int, ...] | None = None

    @property
    def link_ms(self) -> float | None:
        """Both ways of a round that was asked for: measured, or else as the link's model has them."""
        if self.streamed:
            return None
        if self.rtt_ms is None and self.uplink_ms is not None and self.downlink_ms is not None:
            return self.uplink_ms + self.downlink_ms
        return self.rtt_ms

    def __post_init__(self) -> None:
        """Take any sequence of ids."""
        if type(self.tokens) is not tuple:
            object.__setattr__(self, "tokens", tuple(self.tokens))


@dataclass(frozen=True)
class MemoryLook:
    """Memory of the process at one moment, since the request; `cuda_bytes` is what CUDA tensors took then."""

    at_ms: float
    rss_bytes: int
    cuda_bytes: int | None = None


@dataclass(frozen=True)
class Generation:
    """One request answered by one method: one turn of one prompt.

    Args:
        turn: which turn this answers, from 0, of the prompt's `turns`.
        prompt_sha256: hash of the prompt's token ids; generations are compared only where it is equal.
        arrival_ms: when each round arrived, since the request was handed to the method.
        finish_reason: `stop` (a stop token ends the text) or `length` (the budget is spent).
        peak_rss_bytes: highest resident size of the process during this generation, by the kernel's own count
            where it can be asked, else of the looks in `memory`. Interleaved methods share the process.
        memory: how it went meanwhile, the highest look of each stretch; empty in older runs.
        lossless: whether the text is that of the cloud alone; `None` where the cloud has no part in it.
        verification: the rule by which drafted tokens were accepted, `SYNTHETIC` where chance accepted them;
            `None` where nothing was drafted.
        interrupted: the cloud was lost meanwhile and found again, or not; its times measure that, and are left
            out of all statistics.
        prompt_text: what the model read, special tokens included; kept with `--keep-prompts` only.
        complete: whether the answer is whole by its grammar; not where the budget or a stop string ended it
            before. `None` without a grammar.
        energy: what was taken meanwhile; `None` where no counter could be read, and in older runs.
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
    memory: tuple[MemoryLook, ...] = ()
    lossless: bool | None = None
    verification: str | None = None
    interrupted: bool = False
    prompt_text: str | None = None
    complete: bool | None = None
    energy: EnergyUse | None = None
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


def _sum_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
