"""What rounds cost, as columns: those of which at least one method has a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbench.results.derived import MethodSummary

TABLES = {
    "time of rounds": {
        "draft_share": "draft\ntime",
        "link_share": "link\ntime",
        "verify_share": "verify\ntime",
        "hidden_share": "round trip\nhidden",
        "wasted_per_round": "wasted drafts\na round",
        "caught_share": "refusals\ncaught",
        "wasted_verify_share": "wasted\nverify time",
        "prefilled_per_round": "prefilled\na round",
        "prefill_ms_per_round": "prefill ms\na round",
    },
    "states of the target restored": {
        "replayed_per_round": "tokens read again\na round",
        "snapshot_bytes_per_round": "bytes copied\na round",
    },
    "bytes of encoded frames": {
        "bytes_up_per_token": "up\na token",
        "bytes_down_per_token": "down\na token",
        "feature_bytes_per_token": "of them\nhidden states",
        "bytes_up_per_drafted_token": "up a drafted\ntoken",
        "wasted_bytes_per_token": "wasted\na token",
    },
}
"""Columns by title, and by field of `RoundCosts`."""


def known(rows: Sequence[MethodSummary], columns: Mapping[str, str]) -> list[str]:
    """The fields that any row knows, in the order of their columns."""
    return [name for name in columns if any(row.costs and getattr(row.costs, name) is not None for row in rows)]


def cells(row: MethodSummary, names: Sequence[str]) -> list[str]:
    """One row's figures."""
    values = [getattr(row.costs, name) if row.costs else None for name in names]
    return [_cell(name, value) for name, value in zip(names, values, strict=True)]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0%}" if name.endswith("_share") else f"{value:.1f}"
