"""A tuning: its candidates, what was chosen, and the profile that says so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from specbench.profile.paths import anchored_values
from specbench.profile.yaml_text import as_page
from specbench.render.cells import bracketed, interval_text, number
from specbench.render.fitting import Fitted
from specbench.stats.verdict import FEWEST_PROMPTS
from specbench.sweeps.autotune import Autotuned
from specbench.sweeps.candidates import Candidate, in_words

COLUMNS = ("TPOT\nms", "speed-up", "95 %\ninterval")
REPLAYED = "replayed"
FOOT = (
    "Speed-up: of TPOT over the cloud alone, paired by prompt; with threads, over the profile's own. "
    "Intervals are corrected (Holm) over the candidates, of which the best is chosen."
)


def tuning(found: Autotuned, out: Path) -> RenderableType:
    """What was chosen, every candidate, and what not to do with the prompts."""
    replayed = [REPLAYED] * any(each.predicted is not None for each in found.candidates)
    rows = [_row(each, found, bool(replayed)) for each in found.candidates]
    return Group(
        Text(f"{found.method}: {in_words(found.chosen)}. {_gain(found)}{_beside(found)}", style="bold"),
        Fitted(("candidate",), (*COLUMNS, *replayed, ""), rows, words=1),
        Text(FOOT, style="dim"),
        Text(
            f"Prompts that it was tuned on ({found.prompts}) favour it: report others. A run of {out} asks "
            "others unless it is told otherwise."
        ),
        Text(f"Measure it: specbench run {found.method} --profile {out}"),
        Text(f"runs: {', '.join(found.run_ids)}", style="dim"),
    )


def tuning_document(found: Autotuned, out: Path) -> dict:
    """The JSON of a tuning."""
    return {**asdict(found), "out": str(out)}


def profile_page(found: Autotuned, base: str, overrides: Sequence[tuple[str, object]], out: Path) -> str:
    """A profile that extends the one that was tuned, with what was set beside it and what was chosen."""
    is_file = base.endswith((".yaml", ".yml")) or "/" in base
    page: dict = {"extends": os.path.relpath(base, out.absolute().parent) if is_file else base}
    here_too = [(key, anchored_values(key, [value])[0]) for key, value in overrides]
    for key, value in [*here_too, *found.chosen.items()]:
        *parts, name = key.split(".")
        here = page
        for part in parts:
            here = here.setdefault(part, {})
        here[name] = value
    head = (
        f"# Written by 'specbench tune {found.method}' from {found.prompts} prompts (run {found.run_ids[0]}).\n"
        "# They favour these settings: report figures on others.\n"
    )
    if found.gain is not None and not _is_shown(found):
        head += "# These settings were the fastest, but not shown to be faster than the profile's own.\n"
    return head + as_page(page)


def _row(each: Candidate, found: Autotuned, replayed: bool) -> tuple[str, ...]:
    word = each.fault or ("chosen" if _is_within(each.settings, found.chosen) else "")
    if not word and _is_within(each.settings, found.own):
        word = "the profile's own"
    return (
        *(in_words(each.settings), number(each.tpot_ms), number(each.speedup, 2, "x")),
        *(interval_text(each.interval), *[number(each.predicted, 2, "x")] * replayed, word),
    )


def _is_within(settings: Mapping[str, object], others: Mapping[str, object]) -> bool:
    return settings.items() <= others.items()


def _beside(found: Autotuned) -> str:
    """That the best of them does not pay, where that is shown."""
    best = next(each for each in found.candidates if _is_within(each.settings, found.chosen))
    is_slower = best.interval is not None and best.interval[1] < 1
    return " Even so it is slower than the cloud alone." if is_slower else ""


def _is_shown(found: Autotuned) -> bool:
    return found.gain_interval is not None and found.gain_interval[0] > 1


def _gain(found: Autotuned) -> str:
    if found.gain is None:
        return "The profile's own settings were the fastest."
    figures = f"{found.gain:.2f}x the profile's own speed{bracketed(found.gain_interval)}"
    if found.gain_interval is None:
        return f"{figures}; {FEWEST_PROMPTS} prompts are needed to show that it is faster."
    return f"{figures}." if _is_shown(found) else f"{figures}, which is not shown to be faster."
