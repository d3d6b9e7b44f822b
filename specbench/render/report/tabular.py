"""Tables as text, whatever lays them out; here those of a report's end: texts, machine, command."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbench.render.cells import number, percent
from specbench.results.records import SYNTHETIC, Manifest
from specbench.stats.report import Report


@dataclass(frozen=True)
class Table:
    """Cells as text. `columns` name units; the first `names` of them are words, the others figures.

    `colors` are those of each row's cells but the first, as CSS, where they say something.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    colors: tuple[tuple[str, ...], ...] = ()


ENDS = ("interval_low", "interval_high")


def ends(interval: tuple[float, float] | None) -> dict[str, float | None]:
    """An interval as two columns."""
    return dict(zip(ENDS, interval or (None, None), strict=True))


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """A line a row below the columns' names; figures unrounded, unknown ones empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def identity_table(report: Report) -> Table:
    """Whether texts are the control's, a row a method."""
    rows = []
    for row in report.comparison.methods:
        mine = [pair for pair in report.texts if pair.method == row.method]
        counts = [str(sum(pair.repeats for pair in mine if pair.verdict == word)) for word in ("tie", "bug")]
        told = {True: "must be the control's", False: "lossy: may differ", None: "another model's text"}
        told |= {False: "synthetic: means nothing"} if row.verification == SYNTHETIC else {}
        equal = row.agreement.exact_match if row.agreement else row.exact_match
        chrf = (row.agreement.chrf, row.agreement.reference_chrf) if row.agreement else (None, None)
        rows.append(
            (row.method, told[row.lossless], percent(equal), *counts, *(number(value) for value in chrf))
        )
    shown = ("equal to control", "ties", "bugs", "chrF with control", "chrF with references")
    columns = ("method", "text", *shown)
    return Table("Texts beside the control's", columns, tuple(rows), names=2)


def machine_table(manifests: Sequence[Manifest]) -> Table:
    """Machine, versions and moment of each run, a column a run."""
    facts: dict[str, list[str]] = {}
    for index, manifest in enumerate(manifests):
        memory = manifest.machine.get("memory_bytes")
        shown = {
            "started": manifest.started_at,
            "finished": f"{manifest.finished_at or '-'} ({manifest.status})",
            **{name: str(value) for name, value in manifest.machine.items() if value is not None},
            "memory": f"{memory / 1e9:.1f} GB" if isinstance(memory, int) else "-",
            "threads": str(manifest.threads),
            **manifest.versions,
            **{f"plugin {name}": version for name, version in manifest.plugins.items()},
            **{f"plugin {name}": source.in_words for name, source in manifest.sources.items()},
        }
        shown.pop("memory_bytes", None)
        for name, value in shown.items():
            facts.setdefault(name, ["-"] * len(manifests))[index] = value
    columns = ("", *(f"run {manifest.run_id}" for manifest in manifests))
    rows = tuple((name, *cells) for name, cells in facts.items())
    return Table("Machine and versions", columns, rows, names=len(columns))


def command_of(manifest: Manifest) -> str:
    """The command that made a run, as one types it."""
    return shlex.join(["specbench", *manifest.command]) if manifest.command else "specbench.run(), in Python"
