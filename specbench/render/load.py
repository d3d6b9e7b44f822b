"""The table of a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from specbench.render.fitting import Fitted
from specbench.serving_load.figures import Capacity, LoadRow
from specbench.serving_load.load import LoadResult

COLUMNS = (
    "TTFT ms\np50, p90", "TPOT ms\np50, p90", "request s\np50, p90", "tok/s", "server\nbusy",
    "server s\n/1000 tok", "accepted\n/server s", "sequences\nper pass", "edges that\nkeep to it",
    "edges\nat most", "text differs\ntie, else",
)  # fmt: skip
FOOT = (
    "Server s: compute time of the server alone, shared passes divided among their sequences. Edges that keep "
    "to it: median TPOT within the objective. Edges at most: the objective divided by the server's time per "
    "token after the first. Percentiles need enough samples."
)


def load_table(
    rows: Sequence[LoadRow], title: str, objective_ms: float, capacity: Capacity | None
) -> RenderableType:
    """One row for each way to serve the same edges, the prediction, and what to know below."""
    table = Fitted(("",), COLUMNS, [(row.way, *_cells(row)) for row in rows])
    parts: list[RenderableType] = [Text(title), table]
    if capacity:
        parts.append(Text(_sentence(capacity), style="bold"))
    objective = f"Objective: {objective_ms:.1f} ms per token. "
    return Group(*parts, Text(objective + FOOT, style="dim"))


def load_document(result: LoadResult) -> dict:
    """The JSON of a load, beside what was asked for."""
    return {
        "drafts": result.drafts,
        "objective_tpot_ms": result.objective_ms,
        "profile": result.profile.model_dump(mode="json"),
        "edge_device": result.edge_device,
        "capacity": asdict(result.capacity) if result.capacity else None,
        "rows": [asdict(row) for row in result.rows],
    }


def _cells(row: LoadRow) -> list[str]:
    accepted = row.accepted_per_target_s
    return [
        _pair(row.ttft_ms, 1, 0),
        _pair(row.tpot_ms, 1, 1),
        _pair(row.total_ms, 1000, 2),
        f"{row.tokens_per_s:.1f}",
        f"{row.target_busy:.0%}",
        f"{row.target_s_per_1000:.2f}",
        "-" if accepted is None else f"{accepted:.1f}",
        f"{row.texts_per_pass:.1f}",
        f"{row.within} of {row.edges}",
        f"{row.capacity:.1f}",
        "-" if row.ties is None else f"{row.ties}, {row.departed}",
    ]


def _pair(known: dict[str, float], unit: float, digits: int) -> str:
    return ", ".join(f"{known[name] / unit:.{digits}f}" if name in known else "-" for name in ("p50", "p90"))


def _sentence(capacity: Capacity) -> str:
    return (
        "capacity against co-located drafting: predicted "
        f"1 + {capacity.draft_length:.1f} x {capacity.draft_ms:.2f} ms / {capacity.verify_ms:.2f} ms = "
        f"{capacity.predicted:.2f} times the edges (arXiv 2606.25091), "
        f"by the server's own times {capacity.measured:.2f} times"
    )
