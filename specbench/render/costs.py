"""What rounds cost, as columns: those of which at least one method has a figure."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.results import MethodSummary, RoundCosts

COLUMNS = {
    "bytes_up_per_token": "bytes up\na token",
    "bytes_down_per_token": "bytes down\na token",
    "bytes_up_per_drafted_token": "up a drafted\ntoken",
    "draft_share": "draft\ntime",
    "link_share": "link\ntime",
    "verify_share": "verify\ntime",
    "hidden_share": "round trip\nhidden",
    "wasted_per_round": "wasted\na round",
}


def known(rows: Sequence[MethodSummary]) -> list[str]:
    """The fields that any row knows, in the order of their columns."""
    return [name for name in COLUMNS if any(row.costs and getattr(row.costs, name) is not None for row in rows)]


def cells(costs: RoundCosts | None, names: Sequence[str]) -> list[str]:
    """One row's figures."""
    values = [getattr(costs, name) if costs else None for name in names]
    return [_cell(name, value) for name, value in zip(names, values, strict=True)]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0%}" if name.endswith("_share") else f"{value:.1f}"
