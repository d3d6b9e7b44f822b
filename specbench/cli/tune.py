"""`specbench tune`: settings of a method, chosen on prompts that are not reported."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, argument, option
from specbench.errors import SpecbenchError

EXAMPLES = (
    "specbench tune speculative --out tuned.yaml",
    "specbench tune speculative --over speculative.draft_length=2,4,8 --over edge.threads=1,2 --out tuned.yaml",
)


def tune(
    method: Annotated[str, argument("[METHOD]", "Method to tune.")] = "speculative",
    *,
    out: Annotated[Path, option("--out", "Profile to write, which extends the one that is tuned.", "FILE")],
    over: Annotated[
        list[str] | None,
        option(
            "--over",
            "Values of a key to try: speculative.draft_length, speculative.window, edge.threads, or an option "
            "of the method (default: draft lengths 1 to 8, and windows where there is a link). Repeatable.",
            "KEY=VALUES",
        ),
    ] = None,
    on: Annotated[
        str | None,
        option("--on", "Prompts to tune on (default: those that a run of the profile leaves out).", "FILE"),
    ] = None,
    count: Annotated[
        int | None, option("--limit", "Number of prompts to tune on (default: workload.limit).", "N", min=1)
    ] = None,
    trace: Annotated[
        Path | None,
        option("--trace", "Leave out candidates that a replay of this trace shows to be slow.", "FILE"),
    ] = None,
    costs: Annotated[Path | None, option("--costs", "Cost table of that replay.", "FILE")] = None,
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Try settings of a method on prompts that a run leaves out, interleaved; write the best as a profile."""
    from specbench.benchmark.job import loaded_profile
    from specbench.forecast.over import parse_over
    from specbench.profile.loading import overriding
    from specbench.render import console, tuning
    from specbench.render.live import make_view
    from specbench.render.report.output import demand_place, write
    from specbench.results.store import RunStore
    from specbench.sweeps import autotune

    if (trace is None) != (costs is None):
        raise SpecbenchError(
            "--trace and --costs go together", "'specbench limits --costs FILE' measures a cost table"
        )
    demand_place(out)
    asked = autotune.Asked(
        method, *loaded_profile(profile, overrides or ()), parse_over(over or ()), on, count,
        (trace, costs) if trace and costs else None, plugin or (), sys.argv[1:],
    )  # fmt: skip
    with closing(make_view()) as view:
        found = autotune.tune(asked, RunStore(runs_dir), view)
    if as_json:
        console.print_json(tuning.tuning_document(found, out))
    else:
        console.out.print(tuning.tuning(found, out))
    write(tuning.profile_page(found, profile, overriding(overrides or ()), out), out)
