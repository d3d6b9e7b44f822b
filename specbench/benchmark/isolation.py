"""`--isolate`: what memory a method takes where it has the process to itself."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from specbench.benchmark.child_process import JOB, run_to_end
from specbench.benchmark.job import Job
from specbench.profile import Profile
from specbench.profile.loading import with_changes

logger = logging.getLogger(__name__)


def resident_bytes(job: Job, profile: Profile, methods: Iterable[str]) -> dict[str, int]:
    """The highest resident memory of each method, run alone in a child; a method that fails there has none.

    Methods that are interleaved share a process, in which each holds the models of all.

    Args:
        job: that of the whole run.
        profile: as it is run, its draft length tuned.
    """
    settings: dict[str, object] = {"workload.repeats": 1, "workload.restarts": 1}
    once = with_changes(profile, settings=settings).model_dump(mode="json")
    alone = replace(job, run_id="alone", profile=once, only=True, isolate=False, tune_on=None, restart=None)
    found: dict[str, int] = {}
    for name in methods:
        logger.info(f"measuring the memory of {name} in its own process")
        with tempfile.TemporaryDirectory(prefix="specbench-") as scratch:
            file = Path(scratch) / JOB
            mine = replace(alone, runs_dir=scratch, methods=(name,))
            ended = run_to_end(mine, file)
            run = mine.store.read(mine.run_id) if mine.run_id in mine.store.ids() else None
        peaks = [record.peak_rss_bytes for record in run.generations if record.peak_rss_bytes] if run else []
        if peaks and not ended.code:
            found[name] = max(peaks)
        else:
            reason = f"; {ended.error}" if ended.error else ""
            logger.info(f"{name} did not finish in its own process; its memory is unknown{reason}")
    return found
