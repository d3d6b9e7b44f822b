"""`specbench leak`: what sizes and times of messages reveal of the prompts."""

from __future__ import annotations

from specbench.cli import options
from specbench.cli.options import RUNS_DIR

EXAMPLES = ("specbench leak latest", "specbench leak latest --json")


def leak(
    runs: options.RunsArgument = None,
    *,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Measure how well sizes and times of messages identify a prompt's task, and the prompt itself.

    Needs runs whose cloud is another process, as with --set cloud.placement=process.
    """
    from specbench.render import console
    from specbench.render.leak import leaks, leaks_document
    from specbench.stats.leak import leak as leak_of

    found = [leak_of(run) for run in options.stored_runs(runs, runs_dir)]
    if as_json:
        console.print_json(leaks_document(found))
    else:
        console.out.print(*leaks(found), sep="\n")
