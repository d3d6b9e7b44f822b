"""Stored verifications as a page, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from specbench.render.fitting import Fitted
from specbench.render.report.documents import markdown_table, plain
from specbench.render.report.sections import Section
from specbench.render.report.tabular import Table
from specbench.render.report.templates import render
from specbench.render.verify import known, sampling, side_by_side, tables
from specbench.verify.records import Result, Verdict

SEVERAL = "Verifications side by side"
NOTE = "Verdicts on each answer: same, a tie by rounding, differs (a bug), or unproven."


def page(results: Sequence[Result]) -> str:
    """One page, the verdict first; every value is escaped.

    Raises:
        SpecbenchError: `[report]` is not installed.
    """
    first = results[0]
    faults = [f"fault: {each}" for each in first.all_faults] if len(results) == 1 else []
    return render(
        "map.html.j2",
        brand="verify",
        title=_title(first) if len(results) == 1 else SEVERAL,
        headline=first.statement if len(results) == 1 else SEVERAL,
        first=None,
        verdicts=faults or [f"{each.verify_id}: {each.statement}" for each in results],
        notes=[*first.warnings, *known(first)] if len(results) == 1 else [],
        sections=_sections(results),
        charts={},
        foot=NOTE,
    )


def markdown(results: Sequence[Result]) -> str:
    """The statements, and the tables of the page."""
    lines = []
    for each in results:
        lines += [f"# {plain(_title(each))}", "", f"**{plain(each.statement)}**", ""]
        lines += [f"- fault: {plain(fault)}" for fault in each.all_faults]
        lines += [f"- {plain(note)}" for note in (*each.warnings, *sampling(each), *known(each))] + [""]
        for caption, table in tables(each):
            lines += markdown_table(_table(caption, table))
    if len(results) > 1:
        lines += markdown_table(_table(SEVERAL, side_by_side(results)))
    return "\n".join(lines).rstrip() + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """A line for each answer."""
    text = io.StringIO()
    names = [field.name for field in fields(Verdict) if field.name != "tokens"]
    writer = csv.DictWriter(text, ["verify_id", *names, "reference_token", "token"], lineterminator="\n")
    writer.writeheader()
    for result in results:
        for each in result.verdicts:
            values = {name: getattr(each, name) for name in names}
            own, other = each.tokens
            writer.writerow({"verify_id": result.verify_id, **values, "reference_token": own, "token": other})
    return text.getvalue()


def document(results: Sequence[Result]) -> object:
    """What is stored of one, or a list of several."""
    found = [asdict(each) for each in results]
    return found[0] if len(found) == 1 else found


def as_json(results: Sequence[Result]) -> str:
    """The text of that."""
    return json.dumps(document(results), indent=2, ensure_ascii=False) + "\n"


def _title(result: Result) -> str:
    whom = result.against.url if result.against else "itself"
    return f"{result.server.url} against {whom}, {result.started_at}"


def _sections(results: Sequence[Result]) -> list[Section]:
    found = []
    if len(results) > 1:
        found.append(Section("all", SEVERAL, (), tables=(_table("", side_by_side(results)),)))
    for index, each in enumerate(results):
        shown = tuple(_table(caption, table) for caption, table in tables(each))
        title = "What was found" if len(results) == 1 else _title(each)
        lead = (*(each.all_faults if len(results) > 1 else ()), *sampling(each))
        if shown or lead:
            found.append(Section(f"verification-{index}", title, lead, tables=shown))
    return found


def _table(caption: str, fitted: Fitted) -> Table:
    columns = [name.replace("\n", " ") for name in (*fitted.names, *fitted.columns)]
    rows = tuple(tuple(str(cell) for cell in row) for row in fitted.rows)
    return Table(caption, tuple(columns), rows, names=len(fitted.names))
