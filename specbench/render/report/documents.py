"""A report as Markdown, CSV and JSON, for which nothing but specbench itself is needed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace

from specbench.render.report.audit import audit_section
from specbench.render.report.pictures import printable
from specbench.render.report.sections import Section, sections
from specbench.render.report.tabular import (
    ENDS,
    Table,
    command_of,
    csv_text,
    ends,
    identity_table,
    machine_table,
)
from specbench.render.tables import divergence_line
from specbench.stats.document import comparison_document
from specbench.stats.headline import headline
from specbench.stats.report import Report

METHOD_COLUMNS = (
    "method", "label", "lossless", "verification", "generations", "tokens", "ttft_ms", "tpot_ms",
    "tokens_per_second", "acceptance_rate", "acceptance_length", "reference", "paired_prompts",
    "speedup_vs_control", "verdict", "throughput_vs_control", "speedup_vs_cloud_baseline", "exact_match",
    "peak_rss_bytes", "peak_cuda_bytes", "ceiling_tokens_per_second", "share_of_ceiling",
)  # fmt: skip
MANIFEST_FIELDS = ("machine", "versions", "plugins", "threads", "profile", "started_at", "finished_at")


def report_document(report: Report) -> dict:
    """The JSON of a report: that of its comparison, and all that charts and tables are made of."""
    document = asdict(replace(report, runs=()))
    del document["comparison"], document["runs"]
    runs = {
        manifest.run_id: {
            "command": command_of(manifest),
            **{name: getattr(manifest, name) for name in MANIFEST_FIELDS},
            "ceilings": {role: asdict(found) for role, found in manifest.ceilings.items()},
            "sources": {name: asdict(found) for name, found in manifest.sources.items()},
            "audits": [asdict(found) for found in manifest.audits],
        }
        for manifest in report.manifests
    }
    return {**comparison_document(report.comparison), "report": {**document, "runs": runs}}


def as_json(report: Report) -> str:
    """The text of that."""
    return json.dumps(report_document(report), indent=2, ensure_ascii=False) + "\n"


def as_csv(report: Report) -> str:
    """A line a method, then a line a category; figures unrounded, unknown ones empty."""
    rows = [
        {
            "category": "all",
            **{name: getattr(row, name) for name in METHOD_COLUMNS},
            **ends(row.speedup_interval),
        }
        for row in report.comparison.methods
    ]
    labels = {row.method: row.label for row in report.comparison.methods}
    rows += [
        {"category": part.category, "method": part.method, "label": labels[part.method],
         "paired_prompts": part.prompts, "speedup_vs_control": part.speedup, "verdict": part.verdict,
         "p_value": part.p_value, **ends(part.interval)}
        for part in report.comparison.categories
    ]  # fmt: skip
    return csv_text(["category", *METHOD_COLUMNS, *ENDS, "p_value"], rows)


def as_markdown(report: Report) -> str:
    """The answer and tables, in the order of the page."""
    comparison = report.comparison
    lines = [f"# {plain(comparison.profile)}", ""]
    lines += [f"**Warning: {plain(line)}.**\n" for line in comparison.warnings]
    lines += [f"**{plain(headline(comparison))}**", ""]
    lines += [plain(comparison.setting), ""]
    lines += [f"- failed: {plain(f'{part.method}: {part.error}')}" for part in comparison.failures]
    lines += [f"- {plain(note)}" for note in comparison.notes]
    for section in sections(report):
        lines += _markdown_section(section)
    lines += ["", "## Texts that differ", "", *markdown_table(identity_table(report))]
    for pair in report.texts:
        who = f"{pair.method}, prompt {pair.prompt_id}, turn {pair.turn + 1}: {pair.verdict}"
        lines += ["", f"### {plain(who)}", ""]
        lines += [plain(divergence_line(pair.divergence).plain), ""] if pair.divergence else []
        both = Table(
            "", ("", "text"), (("both", pair.shared), ("control", pair.control), (pair.method, pair.other))
        )
        lines += markdown_table(both)
    lines += _markdown_section(audit_section(report))
    lines += ["", "## Environment", "", *markdown_table(machine_table(report.manifests))]
    lines += ["", "## Reproduce", ""]
    lines += [f"- run {found.run_id}: {plain(command_of(found))}" for found in report.manifests]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_section(section: Section) -> list[str]:
    lines = ["", f"## {section.title}", "", *(f"{plain(line)}\n" for line in section.lead)]
    for table in section.every_table:
        lines += markdown_table(table)
    return lines


def markdown_table(table: Table) -> list[str]:
    """The lines of a table, an empty one behind it."""
    rule = ["---" if index < table.names else "---:" for index in range(len(table.columns))]
    caption = [f"*{plain(table.caption)}*", ""] if table.caption else []
    cells = [table.columns, *table.rows]
    head, *body = [f"| {' | '.join(plain(cell) for cell in row)} |" for row in cells]
    return [*caption, head, f"| {' | '.join(rule)} |", *body, ""]


def plain(text: str) -> str:
    """A text that Markdown shows as it is: no markup, no line of its own."""
    escaped = re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", printable(text).replace("&", "&amp;"))
    return re.sub(r"\s*[\r\n]\s*", " ⏎ ", escaped)
