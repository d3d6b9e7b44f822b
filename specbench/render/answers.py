"""One answer with the author of each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.text import Text

from specbench.results.authors import DRAFTED, Author, Piece
from specbench.results.records import Generation, Manifest
from specbench.stats.task_scores import answer_score

STYLES: dict[Author, str] = {
    "draft": "green", "unverified draft": "yellow", "correction": "bold magenta", "bonus": "bold cyan",
    "target": "bold",
}  # fmt: skip
MARKS: dict[Author, tuple[str, str]] = {
    "draft": ("[", "]"), "unverified draft": ("{", "}"), "correction": ("", ""), "bonus": ("+", ""),
    "target": ("", ""),
}  # fmt: skip
LEGEND = "N drafted tokens refused, and what they said where that is known"


class Span(NamedTuple):
    """Neighbouring tokens of one author, over rounds where nothing was refused between them.

    Args:
        refused: drafted tokens refused before them; `refused_text` is what they said.
    """

    author: Author
    text: str
    refused: int
    refused_text: str


def spans(parts: Sequence[Piece]) -> Iterator[Span]:
    """What is shown as one: pieces of one author that follow each other."""
    for _, of_one in groupby(enumerate(parts), key=lambda at: (at[1].author, at[0] if at[1].refused else -1)):
        same = [part for _, part in of_one]
        text = "".join(part.text for part in same)
        yield Span(same[0].author, text, same[0].refused, same[0].refused_text)


def counted(parts: Sequence[Piece]) -> str:
    """How many tokens are whose, as a sentence."""
    total = sum(len(part.tokens) for part in parts)
    drafted = sum(len(part.tokens) for part in parts if part.author in DRAFTED)
    refused = sum(part.refused for part in parts)
    return (
        f"{total} tokens: {drafted} written by the draft, {total - drafted} by the target; "
        f"{refused} drafted tokens refused"
    )


def scored(generation: Generation, manifest: Manifest) -> str:
    """Whether the answer is right, as a sentence; nothing where it is not checked."""
    score = answer_score(generation, manifest.tasks)
    if score is None:
        return ""
    task = manifest.tasks[generation.prompt_id]
    word = {0.0: "wrong", 1.0: "right"}.get(score, "partly right")
    return f"Score {score:.2g} ({word}): {' '.join((task.score, ', '.join(task.answers))).strip()}"


def answer(generation: Generation, parts: Sequence[Piece], manifest: Manifest, coloured: bool) -> Text:
    """The answer, coloured by author, or without colours in brackets; a title, a legend and its score.

    Args:
        manifest: of its run, which says how the answer had to begin and what it is checked for.
    """
    turn = f", turn {generation.turn + 1} of {generation.turns}" if generation.turns > 1 else ""
    title = f"{generation.method}, prompt {generation.prompt_id} ({generation.category}){turn}\n"
    shown = Text.assemble((title, "bold"))
    shown.append(manifest.prefills.get(generation.prompt_id, ""), style="dim")
    for span in spans(parts):
        if span.refused:
            told = f": {one_line(span.refused_text)}" if span.refused_text else ""
            shown.append(f"(-{span.refused}{told})", style="red")
        left, right = ("", "") if coloured else MARKS[span.author]
        shown.append(f"{left}{span.text}{right}", style=STYLES[span.author] if coloured else "")
    shown.append(f"\n{counted(parts)}.\n", style="dim")
    _legend(shown, {part.author for part in parts}, coloured)
    return shown.append(f"{told}.\n" if (told := scored(generation, manifest)) else "")


def one_line(text: str) -> str:
    """A text whose line ends are signs."""
    return text.replace("\n", "⏎")


def _legend(shown: Text, authors: set[Author], coloured: bool) -> None:
    for author in STYLES:
        if author in authors:
            left, right = ("", "") if coloured else MARKS[author]
            shown.append(f"{left}{author}{right}", style=STYLES[author] if coloured else "dim")
            shown.append(", ", style="dim")
    shown.append(f"(-N: text): {LEGEND}.\n", style="dim")
