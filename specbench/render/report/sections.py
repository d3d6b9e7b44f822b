"""A report as sections of tables: what the page and Markdown both lay out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench.render import parts, tables
from specbench.render.cells import number
from specbench.render.report.tabular import Table
from specbench.render.spending import spending
from specbench.results.derived import MethodSummary
from specbench.stats.headline import ranked
from specbench.stats.latency import PERCENTILES, samples_needed
from specbench.stats.report import Report
from specbench.stats.stretches import CONTEXT, POSITION
from specbench.stats.timings import PARTS

LATENCIES = {
    "ttft_ms": "time to first token",
    "tpot_ms": "time per output token",
    "chunk_ms": "between committed chunks",
    "total_ms": "whole answer",
}


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, charts by name, and tables.

    Args:
        folded: charts and tables that the page shows on demand: details of what stands above them.
    """

    name: str
    title: str
    lead: tuple[str, ...]
    charts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    foot: str = ""
    folded_charts: tuple[str, ...] = ()
    folded: tuple[Table, ...] = ()

    @property
    def every_table(self) -> tuple[Table, ...]:
        """All tables, in order."""
        return *self.tables, *self.folded


def sections(report: Report) -> list[Section]:
    """What stands between the answer and the texts, in order; a section without figures is left out."""
    made = (_speed, _answers, _latency, _acceptance, _lengths, _times, _spending, _memory, _ceiling)
    return [section for part in made if (section := part(report))]


def _speed(report: Report) -> Section:
    rows = ranked(report.comparison)
    labels = [(tables.starred(row, report.comparison), row.label) for row in rows]
    speeds = tuple((*who, *tables.speed_cells(row)) for who, row in zip(labels, rows, strict=True))
    shown = Table("All prompts", ("method", "text", *_flat(tables.SPEED_COLUMNS)), speeds, names=2)
    texts = tuple((who[0], *tables.text_cells(row)) for who, row in zip(labels, rows, strict=True))
    folded = [Table("Tokens, memory and ceiling", ("method", *_flat(tables.TEXT_COLUMNS)), texts)]
    if report.comparison.categories:
        by_category = tuple(
            (row.method, row.category, *tables.category_cells(row)) for row in report.comparison.categories
        )
        columns = ("method", "category", *_flat(tables.CATEGORY_COLUMNS))
        caption = "By category; intervals and verdicts are corrected for multiple comparisons (Holm)"
        folded.insert(0, Table(caption, columns, by_category, names=2))
    told = [f"{row.statement}." for row in rows if row.statement]
    told += [f"{tables.prediction_line(found)}." for found in report.comparison.predictions]
    return Section("speed", "Verdicts and speed", tuple(told), (), (shown,), tables.FOOT,
                   ("speedup-categories",), tuple(folded))  # fmt: skip


def _answers(report: Report) -> Section | None:
    rows = [row for row in ranked(report.comparison) if row.quality and row.quality.scored]
    if not rows:
        return None
    cells = tuple((row.method, row.label, *tables.quality_cells(row)) for row in rows)
    columns = ("method", "text", *_flat(tables.QUALITY_COLUMNS))
    lead = (
        "Score: mean over the answers with a known right answer, 1 for each that is right. Worse and better: "
        "answers that score less, or more, than the control's to the same question. Loops and refusals: shares "
        "of all answers."
    )
    return Section("answers", "Answers", (lead,), (), (Table("Checked answers", columns, cells, names=2),))


def _latency(report: Report) -> Section:
    rows = []
    samples = {found.method: found for found in report.samples}
    for row in ranked(report.comparison):
        for figure, name in LATENCIES.items():
            known = row.percentiles.get(figure, {})
            values = getattr(samples[row.method], figure, ())
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
        "Each dot is an answer, the shaded bar the middle half of them, the line the median. Other percentiles "
        f"need samples: p90 {samples_needed(90)}, p95 {samples_needed(95)}, p99 {samples_needed(99):,}."
    )
    table = Table("Latency of answers", columns, tuple(rows), names=2)
    return Section("latency", "Latency", (lead,), ("ttft", "tpot"), folded=(table,))


def _acceptance(report: Report) -> Section | None:
    drafting = [row for row in ranked(report.comparison) if row.acceptance]
    if not drafting:
        return None
    longest = max(len(row.acceptance.conditional) for row in drafting if row.acceptance)
    positions = (f"at {i + 1}" for i in range(longest))
    columns = ("method", "verified by", *_flat(tables.DRAFT_COLUMNS[:-1]), *positions)
    rows = tuple(_acceptance_cells(row, longest) for row in drafting)
    lead = (
        "Conditional acceptance: the share of drafted tokens accepted at this position, given that all before "
        "it were. Survival: the share of drafts accepted up to this position. Only compare methods with the "
        "same verification rule."
    )
    folded = [Table("Acceptance by position in the draft", columns, rows, names=2)]
    if found := report.comparison.category_answers:
        columns = ("method", *_flat(parts.CATEGORY_ANSWER_COLUMNS))
        cells = tuple((each.method, *parts.category_answer_cells(each)) for each in found)
        folded.append(Table("Acceptance and answers by category", columns, cells, names=2))
    by_category = ("acceptance-categories",)
    return Section(
        "acceptance", "Acceptance", (lead,), ("acceptance",), folded_charts=by_category, folded=tuple(folded)
    )


def _lengths(report: Report) -> Section | None:
    found = report.comparison.stretches
    titles = {CONTEXT: "By tokens of the prompt", POSITION: "By position in the answer"}
    columns = ("method", *_flat(parts.STRETCH_COLUMNS))
    shown = [
        Table(title, columns, tuple((each.method, *parts.stretch_cells(each)) for each in part), names=2)
        for of, title in titles.items()
        if (part := [each for each in found if each.of == of])
    ]
    if not shown:
        return None
    if timed := [each for each in found if each.parts_ms is not None]:
        columns = ("method", *_flat(parts.PART_COLUMNS))
        rows = tuple((each.method, *parts.part_cells(each)) for each in timed)
        shown.append(Table("Time per token by tokens of the prompt", columns, rows, names=2))
    lead = (
        "Tokens before a token: attention reads them all, so time per token grows with them, and drafts that "
        "look up the text find more. Of prompts, TPOT is the median; of positions, all time over all tokens. "
        "Parts of a token are all time over all tokens too; what is drafted ahead overlaps, and counts in each."
    )
    return Section(
        "lengths", "Length of the text", (lead,), ("context-tpot", "context-acceptance"), folded=tuple(shown)
    )


def _acceptance_cells(row: MethodSummary, longest: int) -> tuple[str, ...]:
    shares = [number(share, 2) for share in row.acceptance.conditional] if row.acceptance else []
    padded = [*shares, *["-"] * (longest - len(shares))]
    return (row.method, row.verification or "-", *tables.draft_cells(row)[:-1], *padded)


def _times(report: Report) -> Section | None:
    if not report.round_times:
        return None
    known = {found.method: found for found in report.round_times}
    rows = []
    for method in (row.method for row in ranked(report.comparison) if row.method in known):
        found, shares = known[method], []
        for part in PARTS:
            value = found.parts_per_token.get(part)
            share = f" ({value / found.ms_per_token:.0%})" if value is not None and found.total_ms else ""
            shares.append(number(value, 2) + share)
        rows.append((method, str(found.rounds), number(found.tokens, 2), number(found.total_ms),
                     number(found.ms_per_token, 2), *shares))  # fmt: skip
    columns = ("method", "rounds", "tokens a round", "round ms", "token ms", *(f"{part} ms" for part in PARTS))
    missing = [part for part in PARTS if not any(part in found.parts_per_token for found in known.values())]
    lead = (
        "Time of a mean round after the first token, divided by the tokens that the round commits. Draft: the "
        "draft model. Link: up and down. Verify: the model that decides. Other: the rest, such as the host's "
        "own work. Parts that overlap reach beyond the line, which marks the whole."
    )
    told = (f"Not recorded in any round here: {', '.join(missing)}.",) if missing else ()
    table = Table("Time per token by part", columns, tuple(rows))
    return Section("time", "Time per token by part", (lead, *told), ("time",), folded=(table,))


def _spending(report: Report) -> Section | None:
    found = list(spending(report.comparison))
    if not found:
        return None
    shown = tuple(
        Table(
            f"{each.title[0].upper()}{each.title[1:]}",
            ("method", *_flat(each.columns)),
            tuple((row.method, *cells) for row, cells in each.rows),
            names=1 + each.words,
        )
        for each in found
    )
    return Section("spending", "Energy and money", tuple(each.foot for each in found), tables=shown)


def _memory(report: Report) -> Section | None:
    if not report.memory:
        return None
    rows = []
    for row in ranked(report.comparison):
        peaks = (row.peak_rss_bytes, row.peak_cuda_bytes)
        rows.append((row.method, *(number(peak / 1e9 if peak else None, 2) for peak in peaks)))
    known = any(point.course for points in report.memory.values() for point in points)
    lead = (
        "Memory of the process while it answered, in the order of the answers; each point is the peak of one "
        f"answer{'' if known else ' (nothing finer is stored)'}. All methods of a run share the process, which "
        "holds the models of all."
    )
    table = Table("Peak memory", ("method", "resident GB", "CUDA GB"), tuple(rows))
    names = tuple(name for run in report.memory for name in (f"memory-{run}", f"cuda-{run}"))
    return Section("memory", "Memory", (lead,), names, folded=(table,))


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
        "Decoding token by token reads all weights for every token, so memory bandwidth, measured beside each "
        "prompt, sets a limit. Speculation verifies several tokens in one reading and may pass 100 %. Any "
        "other method above 100 % shows a fault of the measurement."
    )
    table = Table("Memory ceiling", columns, tuple(rows), names=2)
    return Section("ceiling", "Share of the memory ceiling", (lead,), ("ceiling",), folded=(table,))


def _flat(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(column.replace("\n", " ") for column in columns)
