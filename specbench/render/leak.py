"""What the messages of runs reveal, as it is printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from specbench.render.cells import interval_text, percent
from specbench.render.fitting import Fitted
from specbench.stats.leak import FOLDS, NEIGHBOURS, PERMUTATIONS, SEED, Leak

NAMES = ("method", "identifies", "seen")
COLUMNS = ("right", "95 %\ninterval", "by\nchance", "by\nmajority", "p\n(Holm)", "prompts", "classes")
FOOT = (
    "Seen: the request (size of the first message and time to the first answer), sizes or times of all later "
    f"messages, or all three. Right: share of guesses by the {NEIGHBOURS} prompts whose messages look most "
    f"alike (for the prompt: by the nearest). Task: {FOLDS} folds, each prompt's answers in one. Prompt: each "
    "repeat is guessed from the others. Interval: bootstrap over prompts. By chance: mean of "
    f"{PERMUTATIONS} shuffles of the labels; p: share of shuffles that did as well. Seed {SEED}."
)


def leaks(found: Sequence[Leak]) -> Iterator[RenderableType]:
    """A table for each run, what was left out, and what the columns mean."""
    for each in found:
        yield Text(f"run {each.run_id}", "bold")
        rows = [
            (
                *(row.method, row.identifies, row.seen, percent(row.accuracy), interval_text(row.interval)),
                *(percent(row.chance), percent(row.majority)),
                f"{row.p_value:.3f}",
                *(str(row.prompts), str(row.classes)),
            )
            for row in each.rows
        ]
        yield Fitted(NAMES, COLUMNS, rows)
        for note in each.notes:
            yield Text(note)
    yield Text(FOOT, "dim")


def leaks_document(found: Sequence[Leak]) -> dict[str, Any]:
    """The JSON of the same."""
    return {
        "runs": [asdict(each) for each in found],
        "folds": FOLDS,
        "neighbours": NEIGHBOURS,
        "permutations": PERMUTATIONS,
        "seed": SEED,
    }
