"""Figures as text, for the cells of tables."""

from __future__ import annotations


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A figure for a cell; a dash where it does not apply or is not known."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def percent(value: float | None) -> str:
    """A share for a cell."""
    return "-" if value is None else f"{value:.1%}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval for a cell."""
    return "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def bracketed(interval: tuple[float, float] | None) -> str:
    """An interval behind its figure; nothing where there is none."""
    return f" ({interval_text(interval)})" if interval else ""
