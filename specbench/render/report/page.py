"""The page: one HTML file that asks no other host for anything, and holds no script."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.profile.yaml_text import as_page
from specbench.render.report.charts import drawings
from specbench.render.report.sections import sections
from specbench.render.report.tabular import command_of, identity_table, machine_table
from specbench.render.report.templates import render, shown_charts
from specbench.render.tables import divergence_line, interval_text, number, percent
from specbench.results.derived import MethodSummary
from specbench.stats.report import Report
from specbench.stats.verdict import EQUIVALENT, FASTER, SLOWER, UNDECIDED

MOST_LOSSY_TEXTS = 6  # as many as anybody reads; those of lossless methods are all shown
TONES = {FASTER: "good", SLOWER: "poor"}
HEADLINES: dict[str | None, str] = {
    FASTER: "Speculation pays",
    SLOWER: "Speculation does not pay",
    EQUIVALENT: "Speculation makes no difference",
    UNDECIDED: "It cannot be told whether speculation pays",
}


def page(report: Report) -> str:
    """The report as HTML; every value is escaped.

    Raises:
        SpecbenchError: `[report]` is not installed.
    """
    charts = shown_charts(drawings(report))
    lossy = [pair for pair in report.texts if not pair.must_agree]
    shown = [pair for pair in report.texts if pair.must_agree] + lossy[:MOST_LOSSY_TEXTS]
    comparison, rows = report.comparison, report.comparison.judged
    return render(
        "page.html.j2",
        comparison=comparison,
        headline=headline(rows, bool(comparison.unfair), bool(comparison.faults), comparison.mostly_repeats),
        rows=[
            {"tone": TONES.get(row.verdict or "", "") if row.lossless else "", "statement": row.statement}
            for row in rows
        ],
        tiles=_tiles(rows, report),
        sections=sections(report),
        charts=charts,
        identity=identity_table(report),
        texts=[(pair, divergence_line(pair.divergence).plain if pair.divergence else "") for pair in shown],
        left_out=len(lossy[MOST_LOSSY_TEXTS:]),
        machine=machine_table(report.manifests),
        runs=[
            {"run_id": found.run_id, "command": command_of(found), "profile": as_page(found.profile)}
            for found in report.manifests
        ],
    )


def headline(rows: list[MethodSummary], unfair: bool, faults: bool = False, repeats: bool = False) -> str:
    """What the methods that draft show, in a few words.

    Args:
        rows: those that have a verdict, or the reason why not.
        faults: what a run wrote is not what its file holds.
        repeats: most texts are a phrase over and over.
    """
    if unfair:
        return "No fair verdict: the runs differ"
    if faults:
        return "No verdict: a run is not as it was written"
    if wrong := [row.method for row in rows if row.bugs]:
        return f"No verdict: {', '.join(wrong)} gave a wrong text"
    if repeats:
        return "Measured on texts that repeat themselves"
    drafting = [row for row in rows if row.acceptance and row.lossless is not None]
    if not drafting:
        return "How fast are these methods?"
    lossless = [row for row in drafting if row.lossless]
    words = _pays(lossless or drafting)
    return words if lossless else f"{words}; its text may differ from the cloud's"


def _pays(rows: Sequence[MethodSummary]) -> str:
    """What the verdicts of these methods show together, and no more."""
    verdicts = {row.verdict for row in rows}
    if len(verdicts) == 1:
        return HEADLINES.get(verdicts.pop(), "Too few prompts to say whether speculation pays")
    if {FASTER, SLOWER} <= verdicts:
        return "Whether speculation pays depends on the method"
    if FASTER in verdicts:
        return f"Speculation pays with {', '.join(row.method for row in rows if row.verdict == FASTER)}"
    return HEADLINES[UNDECIDED] if UNDECIDED in verdicts or None in verdicts else "Speculation does not pay"


def _tiles(rows: list[MethodSummary], report: Report) -> dict:
    """The figures of the first method that drafts, beside the control's; nothing where there is none."""
    first = next((row for row in rows if row.acceptance), None)
    control = next((row for row in report.comparison.methods if first and row.method == first.reference), None)
    if first is None or control is None:
        return {}
    interval = f"95 % interval {interval_text(first.speedup_interval)}"
    accepted = f"{number(first.acceptance_length, 2)} tokens a pass"
    (tpot, its_tpot), (ttft, its_ttft) = (
        [number(value, 1, " ms") for value in values]
        for values in ((first.tpot_ms, control.tpot_ms), (first.ttft_ms, control.ttft_ms))
    )
    figures = [
        ("speed per token", number(first.speedup_vs_control, 2, "x"),
         interval if first.speedup_interval else "no interval"),
        ("time per output token", tpot, f"control {its_tpot}"),
        ("time to first token", ttft, f"control {its_ttft}"),
        ("drafts accepted", percent(first.acceptance_rate), accepted),
        ("texts as the control's", percent(first.exact_match), first.label),
    ]  # fmt: skip
    tiles = [{"name": name, "value": value, "beside": beside} for name, value, beside in figures]
    return {"of": first.method, "figures": tiles}
