"""A sweep, measured: run what is left of it, and read what its runs say."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from specbench.benchmark import sweep_record as sweeps
from specbench.benchmark.job import loaded_profile
from specbench.benchmark.observer import Unobserved
from specbench.benchmark.sweep_record import Sweep, in_words
from specbench.benchmark.workload import with_prompts
from specbench.cluster.submitting import demand_over
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Profile
from specbench.results.records import Prompt
from specbench.results.store import RunStore
from specbench.sweeps.rows import Swept, swept
from specbench.sweeps.runner import Sweeper, SweepObserver

logger = logging.getLogger(__name__)


def sweep(
    profile: Profile | str | Path = "default",
    methods: Sequence[str] = (),
    over: Mapping[str, Sequence[object]] | None = None,
    *,
    prompts: Sequence[str | Prompt] | str | Path | None = None,
    observer: SweepObserver | None = None,
    runs_dir: str | Path = "runs",
    plugins: Sequence[str | Path] = (),
    resume: str | None = None,
) -> Swept:
    """Run methods under every combination of values, each in a process of its own, with the control.

    Args:
        profile: a loaded profile, the name of a shipped one, or a YAML file.
        methods: names, as `specbench plugins` lists them.
        over: values by key of the profile, such as `{"link.rtt_ms": [0, 20, 100]}`.
        prompts: texts, prompts of several turns, or a file; those of the profile's workload when absent.
        observer: is told how far the sweep is.
        runs_dir: the folder that holds runs.
        plugins: Python files with methods of your own.
        resume: the id of a sweep to go on with, which has its own profile, methods and values.

    Raises:
        SpecbenchError: the first thing that is wrong before anything runs. A condition that fails does not
            raise: it is in `Swept.failed`.
        KeyboardInterrupt: Ctrl-C; what was finished is stored, and `resume` goes on.
    """
    store = RunStore(Path(runs_dir).absolute())
    if resume:
        asked = to_resume(store, resume)
    else:
        loaded, name = loaded_profile(profile)
        loaded = with_prompts(loaded, prompts, store.folder)
        asked = sweeps.new_sweep(store, methods, loaded, name, over or {}, plugins=plugins)
    return measure(asked, store, observer or Unobserved())


def to_resume(store: RunStore, sweep_id: str) -> Sweep:
    """A sweep on record, to go on with here.

    Raises:
        SpecbenchError: there is none of that id, or it goes on in jobs.
    """
    demand_over(store, sweep_id)
    return sweeps.read(store, sweep_id)


def measure(asked: Sweep, store: RunStore, observer: SweepObserver) -> Swept:
    """Run what is left of a sweep, and read what all of its runs say.

    Raises:
        KeyboardInterrupt: passed on, with what was begun on record.
    """
    logger.info(f"sweep {asked.sweep_id}: {len(asked.conditions)} conditions")
    sweeper = Sweeper(asked, store, observer)
    try:
        failed = sweeper.run()
    except KeyboardInterrupt:
        logger.info(f"interrupted; resume with 'specbench sweep --resume {asked.sweep_id}'")
        raise
    return replace(swept(sweeper.sweep, store), failed=failed)


def ended_early(made: Swept) -> SpecbenchError:
    """Which conditions of a sweep did not come to their end."""
    conditions, codes = made.sweep.conditions, {each.code for each in made.failed.values()}
    is_known = len(codes) == 1 and codes <= set(ExitCode) - {ExitCode.OK}
    names = "; ".join(in_words(conditions[index]) for index in sorted(made.failed))
    return SpecbenchError(
        f"{len(made.failed)} of {len(conditions)} conditions failed; the reasons are above: {names}",
        f"fix them, then resume with 'specbench sweep --resume {made.sweep.sweep_id}'",
        made.code or (ExitCode(*codes) if is_known else ExitCode.RUN),
    )
