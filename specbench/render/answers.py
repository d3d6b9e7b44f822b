"""One answer with the author of each token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from specbench.results.authors import Piece
from specbench.results.records import Generation, Manifest
from specbench.stats.task_scores import answer_score

STYLES = {"draft": "green", "unverified draft": "yellow", "target": "bold"}
MARKS = {"draft": ("[", "]"), "unverified draft": ("{", "}"), "target": ("", "")}


def answer(generation: Generation, parts: Sequence[Piece], manifest: Manifest, coloured: bool) -> Text:
    """The answer, coloured by author, or without colours in brackets; a title, a legend and its score.

    Args:
        manifest: of its run, which says how the answer had to begin and what it is checked for.
    """
    drafted = sum(len(part.tokens) for part in parts if part.author != "target")
    refused = sum(part.refused for part in parts)
    total = len(generation.tokens)
    turn = f", turn {generation.turn + 1} of {generation.turns}" if generation.turns > 1 else ""
    title = f"{generation.method}, prompt {generation.prompt_id} ({generation.category}){turn}\n"
    shown = Text.assemble((title, "bold"))
    shown.append(manifest.prefills.get(generation.prompt_id, ""), style="dim")
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
    return shown.append(_score(generation, manifest))


def _score(generation: Generation, manifest: Manifest) -> str:
    """Whether the answer is right, as a line; nothing where it is not checked."""
    score = answer_score(generation, manifest.tasks)
    if score is None:
        return ""
    task = manifest.tasks[generation.prompt_id]
    word = {0.0: "wrong", 1.0: "right"}.get(score, "partly right")
    return f"Score {score:.2g} ({word}): {' '.join((task.score, ', '.join(task.answers))).strip()}.\n"
