"""What is measured and kept: frozen dataclasses, standard library only.

A figure that is unknown or does not apply is `None`, never zero. Durations are milliseconds of a
monotonic clock; token counts are counts of committed ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specbench.ceilings import Ceiling
from specbench.frames import frame
from specbench.provenance import MethodSource, OtherModel, Work

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA_VERSION = 2
CONTROL = "cloud_optimized_baseline"  # the method that all others are held against


@dataclass(frozen=True)
class Prompt:
    """One question: its turns are asked one after the other, each with the conversation so far.

    `references` holds the accepted answers of each turn, none where a turn has no known answer.
    """

    prompt_id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Round:
    """What one round committed, and what it cost: the target makes it, and the loop adds what drafting took.

    The first round of a generation commits the target's first token (prefill); it drafts nothing.

    Args:
        tokens: committed ids, at least one.
        finish_reason: `stop`, `length`, or `None` while the sequence goes on.
        drafted: tokens that were sent to verification, in `draft_ms`.
        accepted: drafted tokens that were verified and committed: neither the bonus token nor a correction, nor
            anything behind a stop token.
        depth: drafted tokens of the longest path where the draft is a tree; a chain leaves it out, for that is
            `drafted`.
        verify_ms: time the target computed, measured where it runs; in a shared pass with all of `pass_ms`.
        uplink_ms: the way to the target, `downlink_ms` the way back, as a modelled link delays them. Unknown
            over any other link, for two clocks are never compared.
        rtt_ms: the round trip beyond the target's own work, measured: from sending to the answer, less what the
            target spent on it by its own clock. Unknown where the answer lay here before anybody looked. A vLLM
            server does not tell its own work: there it is the round trip of a question that computes nothing,
            measured before the run.
        streamed: the round came as a part of a stream; nobody asked for it, or waited for its way here.
        wait_ms: how long the edge waited for this with nothing else to do.
        bytes_up: of the encoded frame that asked; `bytes_down` of the one that answered.
        wasted_draft_tokens: tokens drafted ahead of the verdict that it made void.
        unverified: drafted tokens that a gate let pass.
        prefilled: tokens that the target read for it where that is not what its cache lacks alone: the whole
            sequence where it keeps no cache between rounds, prompt and draft where it reads both in one pass.
        shared: sequences that shared the target's pass; `pass_ms` is what the pass took for all of them.
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
        peak_rss_bytes: highest resident size of the process seen during this generation. Methods that
            are interleaved share the process.
        memory: how it went meanwhile, the highest look of each stretch; empty in older runs.
        lossless: whether the text is that of the cloud alone; `None` where the cloud has no part in it.
        verification: the rule by which drafted tokens were accepted; `None` where nothing was drafted.
        interrupted: the cloud was lost meanwhile and found again, or not; its times measure that, and are left
            out of all statistics.
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
    """Where a lossless method first departs from the control on the same prompt, and why.

    Args:
        tokens: the control's id, then the method's; `None` where that text had ended.
        top2_margin: distance between the two highest of the control's compared scores at that position.
        margin: distance between the two tokens in the control's compared scores; `None` at an end, and where a
            token crossed a top-p or top-k cut-off.
        noise: largest difference of any compared score between the control's way of computing that row
            (one token a pass) and the method's (the block it was verified in).
        width: tokens in the pass by which the method decided the position.
        plausible: how far rounding alone moves any compared score there; `None` where nothing depended on it.
        verdict: `tie` where `margin` is at most twice `noise` or a cut-off was crossed, and `noise` is at most
            `plausible`, otherwise `bug`; `None` where the target's passes cannot be repeated, so that neither
            is proven.

    Of the control itself it says where its text is not what a pass over the whole text without a cache says:
    then `tokens` are that pass's id and the control's, and `margin` is their distance in that pass.
    """

    method: str
    prompt_id: str
    turn: int
    repeat: int
    position: int
    tokens: tuple[int | None, int | None]
    top2_margin: float | None = None
    margin: float | None = None
    noise: float | None = None
    width: int | None = None
    verdict: str | None = None
    plausible: float | None = None


@dataclass(frozen=True)
class Recomputation:
    """How the control's texts were held against passes without a cache, off the clock.

    Args:
        texts: how many were; `positions` are the tokens that were compared.
        reason: why it could not be done, where it could not.
    """

    texts: int = 0
    positions: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Failure:
    """A method that stopped with an error; what it had finished is kept.

    Args:
        error: one line, with the plugin's own line of code where that is known.
    """

    method: str
    prompt_id: str | None
    error: str
    traceback: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A later turn of a prompt that a method's own reply made impossible; no method is judged on it.

    It and the turns behind it are left out of all figures, those of methods that could be asked included.

    Args:
        turn: from 0; never the first one, which is checked before a run starts.
    """

    prompt_id: str
    turn: int
    repeat: int
    reason: str


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

    Args:
        wrong: tensors that are not in the declared dtype; empty when all is as declared.
        integers: weights held as integers, by a quantisation.
        widened: tensors that the architecture itself makes in a finer dtype than the declared one.
        narrowed: tensors that the architecture itself makes in a coarser dtype than the declared one.
        quantization: what the profile or the checkpoint's configuration says of it.
        adapters: adapters on disk, and adapter layers in the loaded model.
        tied: names that share one tensor, such as `lm_head.weight = model.embed_tokens.weight`.
        offloaded: tensors that are read from disk or memory each time they are used.
        attention: the implementation, such as `sdpa`; `None` in runs stored before it was recorded.
        ranks: processes that hold the weights together; bytes are those of all.
        logits_problem: why no token can be read from its logits: NaN or infinite ones.
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
    wrong: tuple[TensorGroup, ...] = ()
    integers: tuple[TensorGroup, ...] = ()
    widened: tuple[TensorGroup, ...] = ()
    narrowed: tuple[TensorGroup, ...] = ()
    quantization: str | None = None
    adapters: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    offloaded: tuple[TensorGroup, ...] = ()
    attention: str | None = None
    ranks: int = 1
    logits_problem: str | None = None


@dataclass(frozen=True)
class SwitchChange:
    """A process-wide setting of the arithmetic that changed during a run, and who was at work just before."""

    switch: str
    before: str | bool | None
    after: str | bool | None
    method: str | None = None
    prompt_id: str | None = None


@dataclass(frozen=True)
class Tuning:
    """How a draft length was chosen: on prompts that the reported run does not ask.

    Args:
        on: the category or file named by `--tune-on`.
        run_id: the stored run that measured every candidate, interleaved.
        method: the method that was tuned.
        tpot_ms: geometric mean of its time per output token over the same requests, by draft length.
        chosen: the draft length with the lowest one.
    """

    on: str
    run_id: str
    method: str
    prompt_ids: tuple[str, ...]
    tpot_ms: dict[str, float]
    chosen: int


@dataclass(frozen=True)
class Written:
    """What a run wrote into its `generations.jsonl`: how many lines, and the file's SHA-256."""

    count: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything that a run depends on, written before its first generation and closed after its last.

    `profile` is the whole resolved profile; `engines` says, by role, which engine a model really had: one that
    cannot be compiled runs eagerly. `models` holds, by role, the SHA-256 of every file. `--resume`
    goes on only where these, the prompts, the versions and the machine are the same. `switches` are the
    arithmetic's by moment (`start`, `end`), `turns` what each prompt asks; both are empty in runs stored before
    they were recorded. So are `ceilings`, by role, which are measurements and differ from run to run: no
    comparison is refused for them. `edge_device` says what was applied of `edge.cpus`
    and `edge.memory_limit`, and `trace_sha256` which trace the link played. `isolated_rss_bytes` is the peak
    of each method in a process of its own, where `--isolate` asked for it. `generations` says what was written
    when the run ended; `None` while it goes on, and in runs stored before it was recorded. `recomputation` is
    `None` in runs without a control, and in those stored before it was done. `sources` says, by method, which
    code it was. `own_passes` names the methods that say so of themselves. `unverified` says, by method, why its
    figures are not verified: `work` holds what was counted, and `other_models` what was found in the process.
    `unchecked` names checks behind the last prompt that could not be made. `command` and `directory` are for
    readers; `--resume` takes the profile, the methods, `tuning`, and `plugin_files` (their absolute paths).
    `refusals` are turns that could not be asked, and `remarks` what was said at the start about what is asked.
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
    ceilings: dict[str, Ceiling] = field(default_factory=dict)
    status: str = "running"
    finished_at: str | None = None
    precision_problems: tuple[str, ...] = ()
    audits: tuple[Audit, ...] = ()
    audits_at_end: tuple[Audit, ...] = ()
    switches: dict[str, dict[str, str | bool | None]] = field(default_factory=dict)
    switch_changes: tuple[SwitchChange, ...] = ()
    failures: tuple[Failure, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    recomputation: Recomputation | None = None
    repeats_control: dict[str, bool] = field(default_factory=dict)
    stop_ids: tuple[int, ...] = ()
    references: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    turns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tuning: Tuning | None = None
    edge_device: dict[str, str] = field(default_factory=dict)
    trace_sha256: str | None = None
    isolated_rss_bytes: dict[str, int] = field(default_factory=dict)
    generations: Written | None = None
    sources: dict[str, MethodSource] = field(default_factory=dict)
    own_passes: tuple[str, ...] = ()
    work: dict[str, Work] = field(default_factory=dict)
    other_models: tuple[OtherModel, ...] = ()
    unverified: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    directory: str | None = None
    plugin_files: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    remarks: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Run:
    """A stored run: its manifest and the generations that finished.

    Args:
        faults: what is missing, double or changed in its file, a sentence each; such a run has no verdict.
    """

    manifest: Manifest
    generations: tuple[Generation, ...]
    faults: tuple[str, ...] = ()

    def of(self, method: str) -> list[Generation]:
        """The records that figures of a method are made of: none interrupted, and no turn that was refused."""
        refused = {(part.prompt_id, part.repeat): part.turn for part in self.manifest.refusals}
        return [
            record
            for record in self.generations
            if record.method == method
            and not record.interrupted
            and record.turn < refused.get((record.prompt_id, record.repeat), record.turns)
        ]

    def to_frame(self) -> DataFrame:
        """A row for each answer, as a pandas DataFrame; unknown figures are missing.

        Raises:
            SpecbenchError: pandas is not installed.
        """
        names = (
            *("method", "prompt_id", "category", "turn", "repeat", "prompt_tokens", "ttft_ms", "tpot_ms"),
            *("total_ms", "drafted", "accepted", "peak_rss_bytes", "peak_cuda_bytes", "lossless"),
            *("verification", "finish_reason", "interrupted", "text"),
        )
        return frame(
            [
                {
                    "run_id": self.manifest.run_id,
                    "tokens": len(record.tokens),
                    **{name: getattr(record, name) for name in names},
                }
                for record in self.generations
            ]
        )


def _sum_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
