"""What a run depends on, how it ended, and a stored run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specbench.dataframe import frame
from specbench.results.ceilings import Ceiling
from specbench.results.provenance import MethodSource, OtherModel, Work
from specbench.results.records.energy import EnergyCounter
from specbench.results.records.findings import Audit, Divergence, Recomputation, SwitchChange
from specbench.results.records.generations import SCHEMA_VERSION, Generation, PromptFile, Task
from specbench.results.records.surroundings import Surroundings

if TYPE_CHECKING:
    from pandas import DataFrame

CONTROL = "cloud_optimized_baseline"  # the method that all others are held against


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
    `tasks` says, by prompt, what its last answer is checked for, `prefills` how its answers begin, and `files`
    which images and sounds it shows.
    `energy_counters` are those that were read beside each answer, and `energy_absent` says why others were not.
    `surroundings` are code, packages, processor and its clocks; `None` in older runs.
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
    tasks: dict[str, Task] = field(default_factory=dict)
    prefills: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[PromptFile, ...]] = field(default_factory=dict)
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
    energy_counters: tuple[EnergyCounter, ...] = ()
    energy_absent: tuple[str, ...] = ()
    name: str | None = None
    surroundings: Surroundings | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def restart_repeats(self) -> int | None:
        """How many repeats in a row each process measured; `None` of a run that was made without restarts."""
        workload = self.profile.get("workload", {})
        return workload["repeats"] if workload.get("restarts", 1) > 1 else None

    @property
    def is_tuning(self) -> bool:
        """Whether it measures candidates, whose names hold settings, such as `speculative[draft_length=4]`."""
        return any("[" in method for method in self.methods)


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
