"""`specbench report`: stored runs as a page, or in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, option
from specbench.render.report.output import Format

if TYPE_CHECKING:
    from specbench.forecast.grid import Grid
    from specbench.stats.report import Report
    from specbench.verify.records import Result

PAGE = Path("report.html")
EXAMPLES = ("specbench report", "specbench report latest --format md --charts figures")


def report(
    runs: options.RunsArgument = None,
    out: Annotated[
        Path | None, option("--out -o", "Output file (default: report.html; stdout for other formats).", "FILE")
    ] = None,
    form: Annotated[
        Format | None, option("--format", "Output format (default: the suffix of --out, else html).")
    ] = None,
    charts: options.ChartsOption = None,
    chart_width_mm: options.ChartWidthOption = None,
    methods: options.DrawnOption = None,
    allow_unfair: options.AllowUnfairOption = False,
    runs_dir: options.RunsDirOption = RUNS_DIR,
) -> None:
    """Write a report of stored runs, a sweep or verifications: a self-contained page, Markdown, CSV or JSON."""
    from specbench.benchmark import sweep_record as sweeps
    from specbench.render import console
    from specbench.render.report import output
    from specbench.results.store import RunStore
    from specbench.stats.report import report as report_of
    from specbench.sweeps.rows import measured_grid
    from specbench.verify import store as verifications

    form = output.format_of(form, out)
    wanted = output.Wanted(charts=charts, width_mm=chart_width_mm, methods=methods)
    wanted.demand()
    store = RunStore(runs_dir)
    shown: Report | Grid | list[Result]
    if verified := verifications.named(runs_dir, runs or ()):
        options.demand_alone("a verification", {"--charts": charts})
        shown = verified
    elif runs and len(runs) == 1 and sweeps.exists(store, runs[0]):
        shown = measured_grid(sweeps.read(store, runs[0]), store)
    else:
        shown = report_of(options.stored_runs(runs, runs_dir), allow_unfair)
    text = output.text_of(shown, form)
    path = PAGE if out is None and form is Format.HTML else out
    if path is None:
        console.out.file.write(text)
    else:
        output.write(text, path)
    if not isinstance(shown, list):
        output.write_charts(shown, wanted)
