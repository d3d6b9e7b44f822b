"""A comparison as the JSON that `compare --json` prints, and that bundles keep."""

from __future__ import annotations

from dataclasses import asdict

from specbench.results.derived import Comparison


def comparison_document(comparison: Comparison) -> dict:
    """The documented JSON of a comparison: methods by name, unknown figures null."""
    document = asdict(comparison)
    document["methods"] = {row.pop("method"): row for row in document["methods"]}
    return document
