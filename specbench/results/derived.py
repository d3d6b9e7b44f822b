"""What is worked out from records and shown: frozen dataclasses; what is unknown is `None`, never zero."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from specbench.dataframe import frame
from specbench.results.parts import CategoryAnswers, Stretch
from specbench.results.records import Divergence, Failure
from specbench.results.spending import Money, RoleEnergy

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Acceptance:
    """What became of drafted tokens, over all rounds that drafted; positions count from the first token.

    Args:
        conditional: the i-th drafted token in a row is accepted given that those before it were; `None` where
            no round reached that position, and where the drafted tokens seem not to stand in a row.
        judged: how many drafted tokens each share is of.
        survival: product of `conditional` up to each position, as far as it is known.
        histogram: how many rounds accepted 0, 1, 2, ... drafted tokens.
        seems_a_tree: no round accepted more than some number of its drafted tokens, which could hardly be if
            they stood in a row.
    """

    rounds: int
    drafted_per_round: float
    conditional: tuple[float | None, ...]
    judged: tuple[int, ...]
    survival: tuple[float, ...]
    histogram: tuple[int, ...]
    seems_a_tree: bool = False


@dataclass(frozen=True)
class Agreement:
    """How near a text that need not be the control's comes to it, and to the known answers.

    Args:
        common_prefix_tokens: mean length of the common prefix with the control's text.
        chrf: chrF (Popovic 2015, 0 to 100) of the text against the control's.
        reference_chrf: chrF against the prompts' references; `control_reference_chrf` the control's own.
    """

    exact_match: float | None
    common_prefix_tokens: float | None
    chrf: float | None
    reference_chrf: float | None
    control_reference_chrf: float | None


@dataclass(frozen=True)
class Quality:
    """How good a method's answers are, where that can be checked.

    Args:
        scored: answers that were checked; `score` is their mean, of 0 to 1 each.
        worse: answers that score less than the control's to the same question; `better` likewise.
        loops: share of all answers that repeat a phrase over and over.
        refusals: share of all answers that decline to answer, by their first words, in English.
    """

    scored: int
    score: float | None
    worse: int | None
    better: int | None
    loops: float
    refusals: float


@dataclass(frozen=True)
class Grammar:
    """How a method did on answers that follow a grammar.

    Args:
        answers: that follow one; `complete` are those that are whole by it.
        forced_share: of the drafted tokens, those beside which the grammar allows no other. They take no draft
            step and are never wrong.
        acceptance_rate: of the other drafted tokens, those that were accepted.
    """

    answers: int
    complete: int
    forced_share: float | None
    acceptance_rate: float | None


@dataclass(frozen=True)
class RoundCosts:
    """What rounds cost, over all of them behind the first of each text; how, stands in `stats.round_costs`.

    Args:
        bytes_up_per_token: encoded frames per committed token; `bytes_down_per_token` the other way.
        feature_bytes_per_token: of those down, the target's hidden states, prompts' left out.
        bytes_up_per_drafted_token: encoded frames that carried drafts, per drafted token.
        draft_share: of the time between the first and the last token; `link_share` and `verify_share` likewise.
            What overlaps counts in each, so they may add up to more than 1. Methods that draft.
        hidden_share: of the round trips, what was spent on drafts that stood. Methods that draft ahead.
        wasted_per_round: tokens drafted ahead and dropped.
        caught_share: of the refusals, those whose correction had been drafted for.
        wasted_bytes_per_token: encoded frames about proposals in flight that were dropped, both ways, per
            committed token; `wasted_verify_share` is what the target took to read some of them, as a share of
            the time between the first and the last token.
        prefilled_per_round: tokens that the target read anew for a round, where it keeps no cache between them;
            `prefill_ms_per_round` is the time that this took.
        replayed_per_round: tokens that the target read for the second time, its state having been restored;
            `snapshot_bytes_per_round` were copied for that.
    """

    bytes_up_per_token: float | None = None
    bytes_down_per_token: float | None = None
    feature_bytes_per_token: float | None = None
    bytes_up_per_drafted_token: float | None = None
    draft_share: float | None = None
    link_share: float | None = None
    verify_share: float | None = None
    hidden_share: float | None = None
    wasted_per_round: float | None = None
    caught_share: float | None = None
    wasted_bytes_per_token: float | None = None
    wasted_verify_share: float | None = None
    prefilled_per_round: float | None = None
    prefill_ms_per_round: float | None = None
    replayed_per_round: float | None = None
    snapshot_bytes_per_round: float | None = None


@dataclass(frozen=True)
class CategorySpeedup:
    """One category's part of a speed-up. `interval` and `p_value` are corrected over all such rows (Holm)."""

    method: str
    category: str
    prompts: int
    speedup: float
    interval: tuple[float, float] | None
    p_value: float | None
    verdict: str | None


@dataclass(frozen=True)
class MethodSummary:
    """One row of the result table; how each column is defined stands in docs/reference/figures.md.

    Args:
        label: verification rule and whether the text is the cloud's; what makes the row unfair, if anything.
        reference: the row that `speedup_vs_control` refers to, which is the control of the same run.
        speedup_interval: 95 % bootstrap interval of it; `None` below 12 paired prompts.
        verdict: `faster`, `slower`, `equivalent within 3 %`, `no difference shown`; `None` where there is none,
            which is always so for a text that is not the cloud's.
        statement: the verdict as a sentence.
        throughput_vs_control: ratio of all tokens over all time, on the paired requests.
        percentiles: of `ttft_ms`, `tpot_ms`, `chunk_ms` (between arrivals) and `total_ms`, those that the
            samples allow.
        ceiling_tokens_per_second: what memory allows the model that says the text, token by token; `None` in
            runs stored before it was measured, and where what a token reads is not known.
        ceiling_range: the lowest and the highest that was measured beside a prompt.
        share_of_ceiling: the part of it that the time per token reaches, median over requests, each held
            against what was measured beside its prompt; speculation may pass 1.
        ceiling_fault: why that share cannot be, where it cannot.
        bugs: texts that should be the control's and are not, by no tie; with one there is no verdict.
        unverified: why nobody can say that the figures are those of this engine and this link.
        interval_levels: what `speedup_interval` covers: `prompts`, and `restarts` from three on.
        restarts: processes that measured every paired prompt, of a run with restarts.
    """

    method: str
    label: str
    lossless: bool | None
    verification: str | None
    generations: int
    tokens: int
    ttft_ms: float | None
    tpot_ms: float | None
    tokens_per_second: float | None
    acceptance_rate: float | None
    acceptance_length: float | None
    acceptance: Acceptance | None
    reference: str | None
    paired_prompts: int
    speedup_vs_control: float | None
    speedup_interval: tuple[float, float] | None
    verdict: str | None
    statement: str | None
    throughput_vs_control: float | None
    speedup_vs_cloud_baseline: float | None
    exact_match: float | None
    agreement: Agreement | None
    percentiles: dict[str, dict[str, float]]
    peak_rss_bytes: int | None
    peak_cuda_bytes: int | None
    ceiling_tokens_per_second: float | None = None
    ceiling_range: tuple[float, float] | None = None
    share_of_ceiling: float | None = None
    ceiling_fault: str | None = None
    costs: RoundCosts | None = None
    quality: Quality | None = None
    energy: tuple[RoleEnergy, ...] = ()
    money: Money | None = None
    bugs: int = 0
    unverified: tuple[str, ...] = ()
    grammar: Grammar | None = None
    interval_levels: tuple[str, ...] = ()
    restarts: int = 0


@dataclass(frozen=True)
class Prediction:
    """What the closed form (docs/explanation/planning.md) predicts from a run, and what was measured.

    Args:
        predicted_ms: per token behind the first; `measured_ms` all of that time over all of those tokens.
        gap: measured over predicted, less 1.
        explained_by: the part of a round that departs most, where the gap is above 10 %.
    """

    method: str
    run_id: str
    predicted_ms: float
    measured_ms: float
    gap: float
    explained_by: str | None


@dataclass(frozen=True)
class Comparison:
    """Runs put side by side.

    Args:
        control: the first row of the control, if any run has one.
        told_runs: the ids of `runs`, each with the settings in which it differs from the others.
        unfair: the fields in which they differ, where that was allowed.
        faults: what is missing, double or changed in a run's file.
        warnings: what must be read before any speed; every form of output shows it first.
        mostly_repeats: whether most of the control's texts are a phrase over and over.
        background: those of `notes` that explain figures and change no conclusion.
        stretches: figures by length of the prompt, where lengths differ much, and by position in the answer.
        category_answers: acceptance and scores by category, where there are several.
    """

    profile: str
    runs: tuple[str, ...]
    told_runs: tuple[str, ...]
    control: str | None
    setting: str
    methods: tuple[MethodSummary, ...]
    categories: tuple[CategorySpeedup, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    unfair: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    warnings: tuple[str, ...] = ()
    mostly_repeats: bool = False
    faults: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    category_answers: tuple[CategoryAnswers, ...] = ()

    @property
    def judged(self) -> list[MethodSummary]:
        """Rows with a statement: texts that are the cloud's first, those of another model last."""
        rows = [row for row in self.methods if row.statement]
        return sorted(rows, key=lambda row: (True, False, None).index(row.lossless))

    def to_frame(self) -> DataFrame:
        """A row for each method, as a pandas DataFrame; unknown figures are missing.

        Raises:
            SpecbenchError: pandas is not installed.
        """
        return frame([asdict(row) for row in self.methods])
