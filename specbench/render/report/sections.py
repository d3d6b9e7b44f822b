"""A report as sections of tables: what the page and Markdown both lay out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench.render import tables
from specbench.render.precision import audit_columns, audit_rows
from specbench.render.report.tabular import Table
from specbench.render.tables import number
from specbench.results.derived import MethodSummary
from specbench.stats.latency import PERCENTILES, samples_needed
from specbench.stats.report import Report
from specbench.stats.timings import RoundTime

LATENCIES = {
    "ttft_ms": "time to first token",
    "tpot_ms": "time per output token",
    "chunk_ms": "between committed chunks",
    "total_ms": "whole answer",
}
PARTS = {"draft_ms": "draft", "link_ms": "link", "verify_ms": "verify", "other_ms": "other"}


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, charts by name, and tables."""

    name: str
    title: str
    lead: tuple[str, ...]
    charts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    foot: str = ""


def sections(report: Report) -> list[Section]:
    """What stands between the verdict and the texts, in order; a section without figures is left out."""
    parts = (_fairness, _speed, _latency, _acceptance, _rounds, _memory, _ceiling)
    return [section for part in parts if (section := part(report))]


def _fairness(report: Report) -> Section:
    held = tuple((row.subject, row.held, row.value) for row in report.held)
    caption = "What was held equal between methods, and what was not"
    parts = [Table(caption, ("", "held", "value"), held, names=3)]
    for manifest in report.manifests:
        if manifest.audits:
            columns = ("", *audit_columns(manifest.audits))
            rows = tuple((name, *cells) for name, cells in audit_rows(manifest.audits).items())
            caption = f"Precision of the models as loaded, tensor by tensor (run {manifest.run_id})"
            parts.append(Table(caption, columns, rows, names=len(columns)))
    told = [f"{found.verdict}: {found.message}" for found in report.findings]
    lead = ("A speed-up means something only where nothing else differs.", *told, *report.remarks)
    return Section("fairness", "Was it fair?", lead, tables=tuple(parts))


def _speed(report: Report) -> Section:
    rows = report.comparison.methods
    labels = [(tables.starred(row, report.comparison), row.label) for row in rows]
    speeds = tuple((*who, *tables.speed_cells(row)) for who, row in zip(labels, rows, strict=True))
    parts = [Table("All prompts", ("method", "text", *_flat(tables.SPEED_COLUMNS)), speeds, names=2)]
    if report.comparison.categories:
        by_category = tuple(
            (row.method, row.category, *tables.category_cells(row)) for row in report.comparison.categories
        )
        columns = ("method", "category", *_flat(tables.CATEGORY_COLUMNS))
        parts.append(Table("By category, corrected for asking so often (Holm)", columns, by_category, names=2))
    lead = "Speed per token against the control, the cloud alone in the same loop; the band is 3 % either way."
    texts = tuple((who[0], *tables.text_cells(row)) for who, row in zip(labels, rows, strict=True))
    parts.append(Table("What the methods wrote, and took", ("method", *_flat(tables.TEXT_COLUMNS)), texts))
    told = [f"{tables.prediction_line(found)}." for found in report.comparison.predictions]
    return Section("speed", "How fast is it?", (lead, *told), ("speedup",), tuple(parts), tables.FOOT)


def _latency(report: Report) -> Section:
    rows = []
    for row, found in zip(report.comparison.methods, report.samples, strict=True):
        for figure, name in LATENCIES.items():
            known = row.percentiles.get(figure, {})
            values = getattr(found, figure, ())
            shown = (
                min(values, default=None),
                getattr(row, figure, known.get("p50")),
                max(values, default=None),
                *(known.get(f"p{percent}") for percent in PERCENTILES[1:]),
            )
            if any(value is not None for value in shown):
                rows.append((row.method, name, *(number(value) for value in shown)))
    shown_as = ("lowest", "median", "highest", "p90", "p95", "p99")
    columns = ("method", "latency", *(f"{name} ms" for name in shown_as))
    lead = (
        "One dot an answer; the bar is the median. Other percentiles need samples: "
        f"p90 {samples_needed(90)}, p95 {samples_needed(95)}, p99 {samples_needed(99):,}."
    )
    table = Table("Latency of answers", columns, tuple(rows), names=2)
    return Section("latency", "How long does one wait?", (lead,), ("ttft", "tpot"), (table,))


def _acceptance(report: Report) -> Section | None:
    drafting = [row for row in report.comparison.methods if row.acceptance]
    if not drafting:
        return None
    longest = max(len(row.acceptance.conditional) for row in drafting if row.acceptance)
    positions = (f"at {i + 1}" for i in range(longest))
    columns = ("method", "verified by", *_flat(tables.DRAFT_COLUMNS[:-1]), *positions)
    rows = tuple(_acceptance_cells(row, longest) for row in drafting)
    lead = (
        "How often a drafted token is accepted, given that all before it in its round were; survival is that "
        "it and all before it were. Rates of different verification rules say nothing about each other."
    )
    table = Table("Acceptance by position in the draft", columns, rows, names=2)
    return Section("acceptance", "Which drafted tokens are accepted?", (lead,), ("acceptance",), (table,))


def _acceptance_cells(row: MethodSummary, longest: int) -> tuple[str, ...]:
    shares = [number(share, 2) for share in row.acceptance.conditional] if row.acceptance else []
    padded = [*shares, *["-"] * (longest - len(shares))]
    return (row.method, row.verification or "-", *tables.draft_cells(row)[:-1], *padded)


def _rounds(report: Report) -> Section | None:
    if not report.round_times:
        return None
    columns = ("method", "rounds", "tokens a round", "round ms", *(f"{name} ms" for name in PARTS.values()))
    rows = tuple(
        (found.method, str(found.rounds), number(found.tokens, 2), number(found.total_ms), *_parts(found))
        for found in report.round_times
    )
    missing = [
        name for part, name in PARTS.items() if all(getattr(f, part) is None for f in report.round_times)
    ]
    lead = (
        "A mean round behind the first token: drafting, the link both ways, verification (or a plain step) by "
        "the model that decides, and the rest (the host's own work). A dash: not recorded, or there is none."
    )
    told = (f"Not recorded in any round here: {', '.join(missing)}.",) if missing else ()
    table = Table("Where the time of a round goes", columns, rows)
    return Section("rounds", "Where does the time of a round go?", (lead, *told), ("rounds",), (table,))


def _parts(found: RoundTime) -> tuple[str, ...]:
    shown = []
    for part in PARTS:
        value = getattr(found, part)
        share = f" ({value / found.total_ms:.0%})" if value is not None and found.total_ms else ""
        shown.append(number(value) + share)
    return tuple(shown)


def _memory(report: Report) -> Section | None:
    if not report.memory:
        return None
    rows = []
    for row in report.comparison.methods:
        peaks = (row.peak_rss_bytes, row.peak_cuda_bytes)
        rows.append((row.method, *(number(peak / 1e9 if peak else None, 2) for peak in peaks)))
    known = any(point.course for points in report.memory.values() for point in points)
    lead = (
        "The memory of the process while it answered, in the order in which answers were given, a point at the "
        f"highest of each{'' if known else ' (nothing finer is stored)'}. Methods of one run share the "
        "process, so that each holds the models of all."
    )
    table = Table("Peak", ("method", "resident GB", "CUDA GB"), tuple(rows))
    names = tuple(name for run in report.memory for name in (f"memory-{run}", f"cuda-{run}"))
    return Section("memory", "How much memory does it take?", (lead,), names, (table,))


def _ceiling(report: Report) -> Section | None:
    rows = [
        (
            found.run_id,
            role,
            number(ceiling.weight_bytes / 1e6 if ceiling.weight_bytes else None, 1),
            number(ceiling.bytes_per_second / 1e9, 1),
            " to ".join(number(each / 1e9, 1) for each in ceiling.range or ()) or "-",
            number(ceiling.tokens_per_second, 1),
        )
        for found in report.manifests
        for role, ceiling in found.ceilings.items()
    ]
    if not rows:
        return None
    columns = ("run", "role", "weights a token reads MB", "read bandwidth GB/s", "range GB/s", "ceiling tok/s")
    lead = (
        "Decoding token by token reads all weights for every token, so that the bandwidth of memory, measured "
        "beside each prompt, sets a limit. Speculation verifies several tokens in one reading and may pass "
        "100 %; any other method that does shows a fault of the measurement."
    )
    table = Table("What memory allows", columns, tuple(rows), names=2)
    return Section("ceiling", "How near is it to what memory allows?", (lead,), ("ceiling",), (table,))


def _flat(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(column.replace("\n", " ") for column in columns)
