"""Numbers of threads, each measured in a process of its own."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from specbench.benchmark.child_process import JOB, run_to_end
from specbench.benchmark.job import new_job
from specbench.errors import RunError
from specbench.profile import Profile
from specbench.profile.loading import with_changes
from specbench.results.records import Run
from specbench.results.store import RunStore
from specbench.stats import verdict
from specbench.sweeps.candidates import Candidate, in_words, tpot_ms

logger = logging.getLogger(__name__)

THREADS = "edge.threads"


def with_threads(
    store: RunStore,
    profile: Profile,
    profile_name: str,
    method: str,
    counts: Sequence[object],
    plugins: Sequence[Path] = (),
) -> tuple[list[Candidate], list[str]]:
    """Measure a method with numbers of threads, the profile's own first; and the ids of the runs.

    A process has one number, so each is measured in its own: once in this order and once in the other, so that
    a machine that slows down favours none.

    Raises:
        SpecbenchError: a number is not valid, or a run fails.
    """
    alike = profile.cloud.placement == "in_process" and profile.cloud.threads is not None
    every = list(dict.fromkeys([profile.threads, *counts]))
    keys = (THREADS, *(["cloud.threads"] if alike else []))
    settings = [dict.fromkeys(keys, count) for count in every]
    runs: dict[int, list[Run]] = {index: [] for index in range(len(every))}
    for index in [*runs, *reversed(runs)]:
        changed = with_changes(profile, settings=settings[index])
        job = new_job(store, changed, profile_name, [method], plugins=plugins, only=True)
        logger.info(f"measuring {in_words(settings[index])} in a process of its own")
        with tempfile.TemporaryDirectory(prefix="specbench-") as folder:
            ended = run_to_end(job, Path(folder) / JOB)
        if ended.code:
            raise RunError(f"{in_words(settings[index])} could not be measured: {ended.error}", ended.hint)
        runs[index].append(store.read(job.run_id))
    own, found = runs[0], []
    for index in runs:
        both = [
            verdict.speedup(mine.of(method), other.of(method))
            for mine, other in zip(own, runs[index], strict=True)
        ]
        names = both[0].logs.keys() & both[1].logs.keys()
        logs = {name: statistics.fmean(one.logs[name] for one in both) for name in sorted(names)}
        found.append(verdict.Speedup(logs, both[0].category, None))
    intervals = [None, *verdict.corrected_intervals(found[1:])]
    candidates = [
        Candidate(settings[index], tpot_ms(runs[index][0], method), found[index].ratio, interval)
        for index, interval in enumerate(intervals)
    ]
    return candidates, [run.manifest.run_id for each in runs.values() for run in each]
