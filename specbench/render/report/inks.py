"""The colours of charts: for the page as CSS variables, in light and dark; for files as they are on paper.

Methods and parts keep apart in every common kind of colour blindness (after Okabe and Ito 2008, made darker or
lighter until each stands out from its background by 3:1); shapes and labels say the same without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Ink = Mapping[str, str]
LIGHT = {
    "ink": "#1b2330",
    "muted": "#566173",
    "grid": "#e3e7ee",
    "band": "#e9edf4",
    "paper": "#ffffff",
    "control": "#6b7584",
    "series0": "#0067b1",
    "series1": "#b04300",
    "series2": "#00714f",
    "series3": "#a8478c",
    "series4": "#8a6a00",
    "series5": "#2488b8",
    "draft": "#b04300",
    "link": "#a8478c",
    "verify": "#0067b1",
    "other": "#8a6a00",
    "unsplit": "#6b7584",
}
DARK = {
    "ink": "#e8ecf2",
    "muted": "#a3adbc",
    "grid": "#2c3544",
    "band": "#232c3a",
    "paper": "#131922",
    "control": "#9aa5b5",
    "series0": "#5db0f2",
    "series1": "#ff9a57",
    "series2": "#3ecf9f",
    "series3": "#e693cd",
    "series4": "#e2c04a",
    "series5": "#8fd3f4",
    "draft": "#ff9a57",
    "link": "#e693cd",
    "verify": "#5db0f2",
    "other": "#e2c04a",
    "unsplit": "#9aa5b5",
}
ON_PAGE = {name: f"var(--{name})" for name in LIGHT}
SERIES = sum(name.startswith("series") for name in LIGHT)
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right")


def of_methods(methods: Sequence[str], control: str | None) -> dict[str, tuple[str, str]]:
    """A colour's name and a shape for each method; the control, of each run, is grey."""
    base = control.partition("@")[0] if control else None
    controls = [name for name in methods if name.partition("@")[0] == base]
    looks = {control: ("control", "cross")} if control else {}
    shapes = ("cross", *SHAPES)
    looks |= {name: ("control", shapes[index % len(shapes)]) for index, name in enumerate(controls)}
    for index, name in enumerate(name for name in methods if name not in controls):
        looks[name] = f"series{index % SERIES}", SHAPES[(index + index // SERIES) % len(SHAPES)]
    return looks
