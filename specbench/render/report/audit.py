"""What was held equal between methods: one line for the first screen, and the whole audit."""

from __future__ import annotations

from dataclasses import dataclass

from specbench.render.precision import audit_columns, audit_rows
from specbench.render.report.sections import Section
from specbench.render.report.tabular import Table
from specbench.stats.fairness import EQUAL, NOT_EQUAL, ON_PURPOSE, UNKNOWN
from specbench.stats.report import Report

TOLD = {
    EQUAL: ("good", "✓", "Held equal for all methods"),
    NOT_EQUAL: ("bad", "≠", "Not equal"),
    UNKNOWN: ("bad", "?", "Not verified"),
    ON_PURPOSE: ("", "•", "Differs on purpose"),
}


@dataclass(frozen=True)
class HeldLine:
    """The subjects of one verdict: its tone, the sign that says the same without colour, and words."""

    tone: str
    sign: str
    words: str
    subjects: str


def held_lines(report: Report) -> list[HeldLine]:
    """What was held equal in one line; what was not, in another."""
    lines = []
    for verdict, look in TOLD.items():
        if subjects := [row.subject for row in report.held if row.held == verdict]:
            lines.append(HeldLine(*look, ", ".join(subjects)))
    return lines


def audit_section(report: Report) -> Section:
    """The fairness audit: what was held, and the precision of the models as loaded."""
    held = tuple((row.subject, row.held, row.value) for row in report.held)
    caption = "What was held equal between methods, and what was not"
    folded = []
    for manifest in report.manifests:
        if manifest.audits:
            columns = ("", *audit_columns(manifest.audits))
            rows = tuple((name, *cells) for name, cells in audit_rows(manifest.audits).items())
            title = f"Precision of the models as loaded, tensor by tensor (run {manifest.run_id})"
            folded.append(Table(title, columns, rows, names=len(columns)))
    told = [f"{found.verdict}: {found.message}" for found in report.findings]
    lead = ("A speed-up is only meaningful where nothing else differs.", *told, *report.remarks)
    table = Table(caption, ("", "held", "value"), held, names=3)
    return Section("fairness", "Fairness audit", lead, tables=(table,), folded=tuple(folded))
