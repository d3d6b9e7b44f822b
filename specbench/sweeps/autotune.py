"""`specbench tune`: settings of a method, chosen on prompts that a run of the profile does not ask."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from specbench.benchmark.execution import run_variants
from specbench.benchmark.job import new_job
from specbench.benchmark.observer import Observer
from specbench.benchmark.tuning import DRAFT_LENGTHS, AtSettings, held_out
from specbench.benchmark.workload import with_prompts
from specbench.errors import RunError, SpecbenchError
from specbench.forecast.varied import takes_window
from specbench.method import Method
from specbench.profile import Options, Profile
from specbench.profile.loading import with_changes
from specbench.registry import Registry, discover
from specbench.results.records import CONTROL, Run
from specbench.results.store import RunStore
from specbench.stats import verdict
from specbench.stats.notes import WRONG, bugs
from specbench.sweeps.candidates import Candidate, Settings, in_words, tpot_ms
from specbench.sweeps.pruning import IN_FLIGHT, LENGTH, MARGIN, predicted
from specbench.sweeps.thread_counts import THREADS, with_threads

logger = logging.getLogger(__name__)

STOP = "speculative.confidence_stop"
WINDOWS = (1, 2, 4)
MOST_CANDIDATES = 32  # each has a decoder and caches of its own


@dataclass(frozen=True)
class Autotuned:
    """What was chosen, and from what.

    Args:
        run_ids: of the stored runs that measured the candidates, the interleaved one first.
        prompts: how many they were asked.
        own: what the profile says of what was varied.
        gain: speed of the chosen settings over those, without `edge.threads`; `None` where they are the same.
    """

    method: str
    profile: str
    run_ids: tuple[str, ...]
    prompts: int
    own: Settings
    candidates: tuple[Candidate, ...]
    chosen: Settings
    gain: float | None
    gain_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Asked:
    """What is to be tuned.

    Args:
        over: values by key; when empty draft lengths, and windows where there is a link.
        on: a file of prompts; those behind the workload's limit when absent.
        count: how many prompts; as many as a run asks when absent.
        replay: a trace and a cost table, by which candidates are left out before anything is measured.
    """

    method: str
    profile: Profile
    profile_name: str
    over: Mapping[str, Sequence[object]]
    on: str | None = None
    count: int | None = None
    replay: tuple[Path, Path] | None = None
    plugins: Sequence[Path] = ()
    command: Sequence[str] = ()


def tune(asked: Asked, store: RunStore, observer: Observer) -> Autotuned:
    """Measure candidates interleaved, then numbers of threads in processes of their own, and choose.

    Raises:
        SpecbenchError: a key cannot be tuned, a candidate is not valid, or none could be measured.
        KeyboardInterrupt: Ctrl-C; what was finished is stored.
    """
    registry = discover(asked.plugins)
    method = registry.get(asked.method)
    over = dict(asked.over) or _usual(method, asked.profile)
    threads = over.pop(THREADS, [])
    own, settings = _grid(over, method, asked.profile, registry)
    prompts = held_out(asked.profile, asked.on, asked.count)
    forecast = predicted(*asked.replay, asked.profile, method, settings) if asked.replay else None
    kept, left_out = _pruned(settings, forecast, own)
    if len(kept) > MOST_CANDIDATES:
        raise SpecbenchError(
            f"{len(kept)} candidates are too many: {MOST_CANDIDATES} can be measured interleaved",
            "use fewer values of --over, or have a replay leave some out (--trace, --costs)",
        )
    profile = with_prompts(asked.profile, prompts, store.folder)
    command = tuple(asked.command)
    job = new_job(store, profile, asked.profile_name, [method.name], plugins=asked.plugins, command=command)
    logger.info(f"tuning on {len(prompts)} prompts: {len(kept)} candidates, interleaved with the control")
    with _saying_what_is_stored(store, job.run_id):
        run = run_variants(
            job,
            lambda found: [AtSettings(found, in_words(each.settings), each.settings) for each in kept],
            observer,
        )
        drafts = any(part.drafted for record in run.generations for part in record.rounds)
        if not drafts and not any(key.startswith("methods.") for key in over):
            raise SpecbenchError(
                f"{method.name} does not draft, so there is nothing to tune", "name one that drafts"
            )
        candidates = [*_measured(run, method, kept), *left_out]
        best = _best(candidates)
        gain, gain_interval = _gain(run, method, kept, own, best.settings)
        chosen, run_ids = best.settings, [run.manifest.run_id]
        if threads:
            at_best = with_changes(profile, settings=best.settings)
            found, more = with_threads(store, at_best, asked.profile_name, method.name, threads, asked.plugins)
            first, *others = found
            sure = [each for each in others if each.interval and each.interval[0] > 1]
            fastest = max([first, *sure], key=lambda each: each.speedup or 0.0)
            candidates, run_ids = [*candidates, *found], [*run_ids, *more]
            chosen = {**chosen, **fastest.settings}
    return Autotuned(
        method=method.name,
        profile=asked.profile_name,
        run_ids=tuple(run_ids),
        prompts=len(prompts),
        own=own,
        candidates=tuple(candidates),
        chosen=chosen,
        gain=gain,
        gain_interval=gain_interval,
    )


@contextmanager
def _saying_what_is_stored(store: RunStore, run_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if run_id in store.ids():
            logger.info(f"interrupted; what was measured is stored: show it with 'specbench compare {run_id}'")
        raise


def _usual(method: Method, profile: Profile) -> dict[str, Sequence[object]]:
    has_link = profile.cloud.is_elsewhere or not profile.link.is_empty
    windows = {IN_FLIGHT: WINDOWS} if takes_window(method) and has_link else {}
    return {LENGTH: DRAFT_LENGTHS, **windows}


def _grid(
    over: Mapping[str, Sequence[object]], method: Method, profile: Profile, registry: Registry
) -> tuple[Settings, list[Settings]]:
    """What the profile itself says, and every valid combination, that one first."""
    for key in over:
        if key not in (LENGTH, IN_FLIGHT, STOP) and not key.startswith(f"methods.{method.name}."):
            raise SpecbenchError(
                f"{key} cannot be tuned: it is no lossless setting of drafting, and no option of {method.name}",
                f"vary {LENGTH}, {IN_FLIGHT}, {STOP}, {THREADS} or methods.{method.name}.OPTION; "
                "'specbench sweep' varies any key",
            )
    found = [dict(zip(over, values, strict=True)) for values in product(*over.values())]
    for each in found:
        changed = with_changes(profile, settings=each)
        registry.demand_settings(changed)
        method.validate(Options.of(changed))
    options = method.own(Options.of(profile), method.settings)
    own = {
        key: getattr(options if key.startswith("methods.") else profile.speculative, key.rpartition(".")[2])
        for key in over
    }
    return own, [own, *(each for each in found if each != own)]


def _pruned(
    settings: Sequence[Settings], forecast: Sequence[float] | None, own: Settings
) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates to measure, and those that a replay leaves out; the profile's own settings always stay."""
    if forecast is None:
        return [Candidate(each) for each in settings], []
    kept, left_out = [], []
    for each, speedup in zip(settings, forecast, strict=True):
        if each == own or speedup * MARGIN >= max(forecast):
            kept.append(Candidate(each, predicted=speedup))
        else:
            fault = f"left out: the replay gives more than {100 * (MARGIN - 1):.0f} % more time than its best"
            left_out.append(Candidate(each, predicted=speedup, fault=fault))
    return kept, left_out


def _measured(run: Run, method: Method, kept: Sequence[Candidate]) -> list[Candidate]:
    names = [f"{method.name}[{in_words(each.settings)}]" for each in kept]
    found = [verdict.speedup(run.of(CONTROL), run.of(name)) for name in names]
    errors = {failure.method: f"it failed: {failure.error}" for failure in run.manifest.failures}
    wrong = {name: f"its texts {WRONG}" for name, count in bugs(run.manifest).items() if count}
    faults = {**errors, **wrong}
    return [
        Candidate(
            settings=each.settings,
            tpot_ms=tpot_ms(run, name),
            speedup=one.ratio,
            interval=interval,
            predicted=each.predicted,
            fault=faults.get(name) or (None if one.ratio else "no answer is longer than its first token"),
        )
        for each, name, one, interval in zip(
            kept, names, found, verdict.corrected_intervals(found), strict=True
        )
    ]


def _best(candidates: Sequence[Candidate]) -> Candidate:
    able = [each for each in candidates if each.fault is None]
    if not able:
        raise RunError(f"nothing could be chosen: {candidates[0].fault}")
    return max(able, key=lambda each: each.speedup or 0.0)


def _gain(
    run: Run, method: Method, kept: Sequence[Candidate], own: Settings, chosen: Settings
) -> tuple[float | None, tuple[float, float] | None]:
    """The chosen settings against the profile's own, as one of many that were tried."""
    names = {in_words(each.settings): f"{method.name}[{in_words(each.settings)}]" for each in kept}
    mine = run.of(names[in_words(own)])
    others = {
        name: verdict.speedup(mine, run.of(full)) for name, full in names.items() if name != in_words(own)
    }
    if chosen == own:
        return None, None
    intervals = dict(zip(others, verdict.corrected_intervals(list(others.values())), strict=True))
    return others[in_words(chosen)].ratio, intervals[in_words(chosen)]
