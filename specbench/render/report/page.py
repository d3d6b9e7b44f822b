"""The page: one HTML file that asks no other host for anything, and holds no script."""

from __future__ import annotations

import re

from specbench.profile.yaml_text import as_page
from specbench.render.cells import number, percent
from specbench.render.report.audit import audit_section, held_lines
from specbench.render.report.charts import drawings
from specbench.render.report.sections import sections
from specbench.render.report.tabular import command_of, identity_table, machine_table
from specbench.render.report.templates import render, shown_charts
from specbench.render.report.written import view
from specbench.render.tables import divergence_line
from specbench.results.derived import MethodSummary
from specbench.stats.headline import headline, leader
from specbench.stats.report import Report
from specbench.stats.verdict import FASTER, SLOWER

MOST_LOSSY_TEXTS = 6  # as many as anybody reads; those of lossless methods are all shown
UNBROKEN = re.compile(r"(?<=\d) to (?=\d)")  # an interval stays on one line
TONES = {FASTER: "good", SLOWER: "bad"}


def page(report: Report) -> str:
    """The report as HTML; every value is escaped.

    Raises:
        SpecbenchError: `[report]` is not installed.
    """
    charts = shown_charts(drawings(report))
    lossy = [pair for pair in report.texts if not pair.must_agree]
    shown = [pair for pair in report.texts if pair.must_agree] + lossy[:MOST_LOSSY_TEXTS]
    comparison, best = report.comparison, leader(report.comparison)
    return render(
        "page.html.j2",
        comparison=comparison,
        headline=UNBROKEN.sub("\u00a0to\u00a0", headline(comparison)),
        tone=TONES.get(best.verdict or "", "") if best and not comparison.mostly_repeats else "",
        best=best,
        figures=_figures(best, report) if best else [],
        held=held_lines(report),
        sections=sections(report),
        audit=audit_section(report),
        charts=charts,
        written=view(report.runs),
        identity=identity_table(report),
        texts=[(pair, divergence_line(pair.divergence).plain if pair.divergence else "") for pair in shown],
        left_out=len(lossy[MOST_LOSSY_TEXTS:]),
        machine=machine_table(report.manifests),
        runs=[
            {"run_id": found.run_id, "command": command_of(found), "profile": as_page(found.profile)}
            for found in report.manifests
        ],
    )


def _figures(best: MethodSummary, report: Report) -> list[dict[str, str]]:
    """Four figures of the best method, each beside the control's."""
    control = next((row for row in report.comparison.methods if row.method == best.reference), None)

    def beside(value: str) -> str:
        return f"cloud alone {value}" if control else ""

    tpot, ttft = ([number(getattr(row, name), 1, " ms") if row else "" for row in (best, control)]
                  for name in ("tpot_ms", "ttft_ms"))  # fmt: skip
    accepted = f"{percent(best.acceptance_rate)} of drafted tokens accepted" if best.acceptance else "no drafts"
    same = "of answers, token for token" if best.exact_match is not None else best.label
    figures = [
        ("Time per output token", tpot[0], beside(tpot[1])),
        ("Time to first token", ttft[0], beside(ttft[1])),
        ("Tokens per round", number(best.acceptance_length, 2), accepted),
        ("Same text as the cloud", percent(best.exact_match), same),
    ]
    return [{"name": name, "value": value, "beside": words} for name, value, words in figures]
