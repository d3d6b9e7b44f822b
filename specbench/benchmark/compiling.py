"""Compiles the models of a run at once, each in a process of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specbench.benchmark.preparation import Prepared
from specbench.engine.program_cache import program_folder
from specbench.engine.threads import release_compute_threads
from specbench.errors import SpecbenchError, first_line
from specbench.models.confinement import lifted

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from specbench.engine.compiled.engine import CompiledEngine

logger = logging.getLogger(__name__)

LONGEST_S = 1200.0


def compile_together(prepared: Prepared) -> None:
    """Make the programs that are not on disk yet, all at once, before a method loads the models.

    What fails here, the model tries again when a method opens it, and says why it runs eagerly. The processes
    share this one's weights, and what a compiler takes is not counted as memory of the run.
    """
    if prepared.profile.engine.kind == "eager":
        return
    here = {role: prepared.factory(role) for role in prepared.roles if prepared.factory(role).is_here}
    try:
        waiting = {role: engine for role, factory in here.items() if (engine := factory.begin())}
        if waiting:
            _in_processes(waiting, prepared)
    except SpecbenchError:
        return  # the method that opens the model meets it again
    except Exception as error:
        logger.warning("the models could not be compiled at once: %s", first_line(error))


def _in_processes(engines: Mapping[str, CompiledEngine], prepared: Prepared) -> None:
    models = f"the {' and the '.join(engines)} model{'s' if len(engines) > 1 else ''}"
    logger.info("compiling %s: a minute or two, once, kept in %s", models, program_folder())
    release_compute_threads()  # threads do not come along into a forked process, which would wait for them
    fork = multiprocessing.get_context("fork")
    running: list[BaseProcess] = []
    try:
        with lifted(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, where a process has threads
            for engine in engines.values():
                running.append(fork.Process(target=_make, args=(engine,)))
                running[-1].start()
        if "cloud" in prepared.roles and prepared.profile.cloud.placement == "process":
            prepared.cloud.load()  # it compiles its own model meanwhile
        end = time.monotonic() + LONGEST_S
        for process in running:
            process.join(max(0.0, end - time.monotonic()))
    finally:
        for process in running:
            process.kill()
            process.join()


def _make(engine: CompiledEngine) -> None:
    logging.disable()
    with contextlib.suppress(BaseException):  # Ctrl-C reaches this process too
        engine.make()
