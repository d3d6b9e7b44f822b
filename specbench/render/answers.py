"""One answer with the author of each token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from specbench.results.authors import Piece
from specbench.results.records import Generation

STYLES = {"draft": "green", "unverified draft": "yellow", "target": "bold"}
MARKS = {"draft": ("[", "]"), "unverified draft": ("{", "}"), "target": ("", "")}


def answer(generation: Generation, parts: Sequence[Piece], coloured: bool) -> Text:
    """The answer, coloured by author, or without colours in brackets; a title and a legend."""
    drafted = sum(len(part.tokens) for part in parts if part.author != "target")
    refused = sum(part.refused for part in parts)
    total = len(generation.tokens)
    turn = f", turn {generation.turn + 1} of {generation.turns}" if generation.turns > 1 else ""
    title = f"{generation.method}, prompt {generation.prompt_id} ({generation.category}){turn}\n"
    shown = Text.assemble((title, "bold"))
    for author, of_one in groupby(parts, key=lambda part: part.author):
        same = list(of_one)
        if refused_here := sum(part.refused for part in same):
            shown.append(f"(-{refused_here})", style="red")
        left, right = ("", "") if coloured else MARKS[author]
        style = STYLES[author] if coloured else ""
        shown.append(f"{left}{''.join(part.text for part in same)}{right}", style=style)
    draft = "green" if coloured else "in brackets"
    shown.append(
        f"\n{total} tokens: {drafted} written by the draft ({draft}), {total - drafted} by the target. "
        f"(-N): N drafted tokens refused here ({refused} in all).\n",
        style="dim",
    )
    return shown
