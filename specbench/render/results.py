"""A comparison in a terminal: the verdict, one table, and what may change how both are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from specbench.render.cells import interval_text, number
from specbench.render.fitting import Cell, Fitted
from specbench.render.tables import detail_tables, divergence_line, score_text
from specbench.results.derived import Comparison, MethodSummary
from specbench.results.records import CONTROL, SYNTHETIC, Divergence
from specbench.stats.comparison import LABELS
from specbench.stats.headline import headline
from specbench.stats.row_names import base
from specbench.stats.verdict import EQUIVALENT, FASTER, SLOWER, UNDECIDED

SHOWN_TIES = 5
WORDS: dict[str | None, tuple[str, str]] = {
    FASTER: ("faster", "bold green"),
    SLOWER: ("slower", "red"),
    EQUIVALENT: ("equivalent", ""),
    UNDECIDED: ("inconclusive", "yellow"),
    None: ("no verdict", "yellow"),
}
LOSSY = {False: "lossy rule", None: "other model"}
OTHER_TEXT = "not the target's text:"
COLUMNS = ("speed-up\n(95 % interval)", "TTFT\nms", "TPOT\nms")
OPTIONAL = ("accept\nlength", "tok/s", "peak\nmemory")
SCORE = "score"
FOOT = (
    "Speed-up: the control's TPOT over the method's, paired by prompt (no ratio of cells). Control: the "
    "cloud alone, same loop. TTFT, TPOT: medians."
)
OWN_CONTROLS = " Each method against the control of its own run."


def comparison_table(comparison: Comparison, details: bool = False) -> RenderableType:
    """The verdict first and last; between them the table, and what may change how it is read.

    Args:
        details: also every figure, every near-tie and every note.
    """
    answer = Text(headline(comparison), style="bold")
    notes = [note for note in comparison.notes if details or note not in comparison.background]
    runs = comparison.told_runs if len(comparison.runs) > 1 else ()
    parts: list[RenderableType] = [Text(f"warning: {line}", style="red") for line in comparison.warnings]
    parts += [answer, Text(f"\n{comparison.profile} · {comparison.setting}"), ResultTable(comparison)]
    parts += detail_tables(comparison) if details else [Text(_foot(comparison), style="dim")]
    parts.append(Text("Terms: docs/glossary.md", style="dim"))
    if not details:
        parts.append(Text(f"More: specbench compare {' '.join(comparison.runs)} --details", style="dim"))
    parts += divergence_lines(comparison.divergences, details)
    parts += [
        Text(f"failed: {failure.method} on prompt {failure.prompt_id}: {failure.error}", style="red")
        for failure in comparison.failures
    ]
    parts += [Text(f"note: {note}", style="yellow") for note in notes]
    parts += [Text(f"run: {run}", style="dim") for run in (comparison.told_runs if details else runs)]
    return Group(*parts, answer)


def _foot(comparison: Comparison) -> str:
    methods = [row for row in comparison.methods if base(row.method) != CONTROL]
    references = {row.reference for row in methods if row.reference}
    return FOOT + (OWN_CONTROLS if len(references) > 1 else "")


@dataclass(frozen=True)
class ResultTable:
    """A row a method: those that keep the target's text by speed-up, the others apart below them."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """As many columns as there is room for; what has none stands among the details."""
        yield Text("")
        for count in range(len(OPTIONAL), -1, -1):
            table = self._table(count)
            if table.fits(console, options):
                break
        yield table

    def _table(self, optional: int) -> Fitted:
        rows = sorted(self.comparison.methods, key=lambda row: -(row.speedup_vs_control or 0.0))
        keeping = [row for row in rows if row.lossless]
        others = [row for row in rows if not row.lossless]
        columns = (*COLUMNS, *([SCORE] if self._is_scored else []), *OPTIONAL[:optional], "")
        cells = [self._cells(row, optional) for row in keeping]
        if others:
            cells.append([Text(OTHER_TEXT, style="dim"), *[""] * len(columns)])
            cells += [self._cells(row, optional) for row in others]
        return Fitted(("method",), columns, cells, words=1)

    def _cells(self, row: MethodSummary, optional: int) -> Sequence[Cell]:
        speed = number(row.speedup_vs_control, 2, "x")
        if row.speedup_interval:
            speed += f" ({interval_text(row.speedup_interval)})"
        memory = row.peak_rss_bytes / 1e9 if row.peak_rss_bytes else None
        extra = (number(row.acceptance_length, 2), number(row.tokens_per_second), number(memory, 2, " GB"))
        return (
            _name(row),
            speed,
            brief(row.ttft_ms),
            brief(row.tpot_ms),
            *([score_text(row)] if self._is_scored else []),
            *extra[:optional],
            self._word(row),
        )

    @property
    def _is_scored(self) -> bool:
        return any(row.quality and row.quality.scored for row in self.comparison.methods)

    def _word(self, row: MethodSummary) -> Text:
        if row.method == row.reference or row.method == self.comparison.control:
            return Text("control", style="dim")
        if row.verification == SYNTHETIC:
            return Text(SYNTHETIC, style="yellow")
        if not row.lossless:
            return Text(LOSSY[row.lossless], style="dim")
        return Text(*WORDS[row.verdict])


def brief(value: float | None) -> str:
    """Milliseconds in three digits where that is enough."""
    return number(value, 1 if value is not None and value < 100 else 0)


def _name(row: MethodSummary) -> Text:
    """The name, and below it whatever sets the row apart from a row that is simply lossless."""
    rule = row.verification or "\0"
    usual = {*LABELS.values(), rule}
    apart = [part for part in row.label.split(", ") if part not in usual]
    style = "red" if row.bugs or row.unverified else "dim"
    return Text.assemble(row.method.replace("@", "\n@"), *(("\n  " + part, style) for part in apart))


def divergence_lines(found: Sequence[Divergence], details: bool) -> list[Text]:
    """Every bug; of near-ties and of what is unproven the number, or as many as can be read."""
    bugs = [part for part in found if part.verdict == "bug"]
    lines = [divergence_line(part) for part in bugs]
    for verdict, meaning in (("tie", "a near-tie of two tokens"), (None, "no proven near-tie")):
        parts = [part for part in found if part.verdict == verdict]
        if details:
            lines += [divergence_line(part) for part in parts[:SHOWN_TIES]]
            if len(parts) > SHOWN_TIES:
                lines.append(Text(f"and {len(parts) - SHOWN_TIES} more, in --json", style="yellow"))
        elif parts:
            texts = "text differs" if len(parts) == 1 else "texts differ"
            lines.append(Text(f"{len(parts)} {texts} from the control's by {meaning}", style="yellow"))
    return lines
