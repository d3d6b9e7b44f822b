"""`--restarts`: one run, measured by several processes one after the other."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from specbench.benchmark.child_process import JOB, Ended, end_of, let_end, start
from specbench.benchmark.job import Job
from specbench.errors import RunError, SpecbenchError
from specbench.results.records import Run

logger = logging.getLogger(__name__)


def restarted(job: Job) -> Run:
    """Make a run by as many processes as its profile says, or go on with the first that is not complete.

    Each restart asks every prompt, `workload.repeats` times. The numbers of its repeats follow those of the one
    before. A restart with a failed method, or with another precision than declared, is the last.

    Raises:
        SpecbenchError: a restart did not come to its end; what it measured is stored.
        KeyboardInterrupt: Ctrl-C; what was finished is stored.
    """
    count = job.profile["workload"]["restarts"]
    for number in range(_first_incomplete(job, count), count):
        logger.info(f"restart {number + 1} of {count}")
        ended = _made(replace(job, restart=number))
        if ended.state != "done":
            raise _lost(job, ended, f"restart {number + 1} of {count}")
        if ended.code:
            break
    return job.store.read(job.run_id)


def _made(job: Job) -> Ended:
    with (
        tempfile.TemporaryDirectory(prefix="specbench-") as folder,
        start(job, file := Path(folder) / JOB) as process,
    ):
        try:
            process.wait()
        except KeyboardInterrupt:
            let_end(process)
            raise
        except BaseException:
            process.kill()
            raise
        return end_of(file, process.returncode)


def _first_incomplete(job: Job, count: int) -> int:
    """The last one where all are complete: it holds the texts against the control's."""
    if job.run_id not in job.store.ids():
        return 0
    run = job.store.read(job.run_id)
    done = {(each.method, each.prompt_id, each.repeat) for each in run.generations}
    asked = [(method, prompt_id) for method in run.manifest.methods for prompt_id in run.manifest.prompt_ids]
    repeats = job.profile["workload"]["repeats"]
    for number in range(count - 1):
        mine = range(number * repeats, (number + 1) * repeats)
        if any((*each, repeat) not in done for each in asked for repeat in mine):
            return number
    return count - 1


def _lost(job: Job, ended: Ended, which: str) -> SpecbenchError:
    if job.run_id not in job.store.ids():  # nothing was measured, as with bad input
        return SpecbenchError(ended.error or f"{which} was interrupted", ended.hint, ended.code)
    kept = len(job.store.read(job.run_id).generations)
    return RunError(
        f"{which} of run {job.run_id} did not come to its end: {ended.error or 'it was interrupted'}",
        f"{kept} answers are stored; go on with 'specbench run --resume {job.run_id}'",
        ended.code,
    )
