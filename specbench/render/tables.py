"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench.records import Audit, Comparison, Divergence, MethodSummary

COLUMNS = (
    "method", "lossless", "tokens", "TTFT ms", "TPOT ms", "tok/s", "accept\nrate", "accept\nlength",
    "speed-up\nvs control", "speed-up vs\ngenerate", "exact\nmatch", "peak\nmemory",
)  # fmt: skip
FOOT = (
    "TTFT, TPOT: medians over requests. tok/s: all tokens over all time, prefill included. speed-up: ratio of "
    "geometric means of TPOT over paired requests, so columns need not divide into each other. Acceptance: "
    "sums over sums. Memory: the process, which all methods of a run share."
)


def comparison_table(comparison: Comparison) -> RenderableType:
    """The result table with what was measured above it, and what to know below it."""
    table = Table(
        title=f"{comparison.profile} · {comparison.setting}", title_justify="left", title_style="bold",
        caption=FOOT, caption_justify="left", header_style="bold",
    )  # fmt: skip
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=index == 0)
    for summary in comparison.methods:
        name = Text(summary.method)
        if summary.method == comparison.control:
            name.append(" (control)", style="dim")
        table.add_row(name, *_cells(summary))
    parts: list[RenderableType] = [table]
    parts += [_divergence(divergence) for divergence in comparison.divergences]
    parts += [
        Text(f"failed: {failure.method} on prompt {failure.prompt_id}: {failure.error}", style="red")
        for failure in comparison.failures
    ]
    parts += [Text(f"note: {note}", style="yellow") for note in comparison.notes]
    parts.append(Text(f"run: {', '.join(comparison.runs)}", style="dim"))
    return Group(*parts)


def audit_table(audits: Sequence[Audit]) -> Table:
    """What every tensor of the loaded models really is."""
    table = Table(header_style="bold", title="as loaded", title_justify="left")
    for column in ("role", "device", "declared", "parameters", "buffers", "logits", "cache", "stored on disk"):
        table.add_column(column)
    for audit in audits:
        groups = [
            "\n".join(f"{group.dtype} x{group.tensors} ({group.bytes / 1e6:.1f} MB)" for group in part)
            or "none"
            for part in (audit.parameters, audit.buffers, audit.cache)
        ]
        stored = Text("\n".join(audit.stored))
        table.add_row(audit.role, audit.device, audit.declared, *groups[:2], audit.logits, groups[2], stored)
    return table


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A figure for a cell; a dash where it does not apply or is not known."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def _cells(summary: MethodSummary) -> list[str]:
    lossless = {True: "yes", False: "no", None: "-"}[summary.lossless]
    memory = summary.peak_rss_bytes
    match = summary.exact_match
    return [
        lossless,
        str(summary.tokens),
        number(summary.ttft_ms),
        number(summary.tpot_ms),
        number(summary.tokens_per_second),
        number(summary.acceptance_rate, 3),
        number(summary.acceptance_length, 2),
        number(summary.speedup_vs_control, 2, "x"),
        number(summary.speedup_vs_cloud_baseline, 2, "x"),
        "-" if match is None else f"{match:.1%}",
        number(memory / 1e9 if memory else None, 2, " GB"),
    ]


def _divergence(divergence: Divergence) -> Text:
    control, other = (f"id {token}" if token is not None else "its end" for token in divergence.tokens)
    margin = "unknown" if divergence.top2_margin is None else f"{divergence.top2_margin:.2e}"
    return Text(
        f"mismatch: {divergence.method} departs from the control on prompt {divergence.prompt_id}, turn "
        f"{divergence.turn + 1}, at token {divergence.position}: control has {control}, it has {other}; "
        f"the control's top-2 logit margin there is {margin}",
        style="yellow",
    )
