"""The page's view of who wrote each token: some prompts, with the answers of every method that drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specbench.benchmark.stored_answers import Written, in_pieces
from specbench.errors import SpecbenchError
from specbench.render.answers import Span, counted, scored, spans
from specbench.results.authors import Author, Piece
from specbench.results.records import Generation, Run
from specbench.stats.groups import Group, groups_of
from specbench.stats.task_scores import is_wrong

MOST_PROMPTS, MOST_TOKENS, MOST_LETTERS = 12, 256, 600
"""What a page shows: of prompts, of tokens of an answer, and of letters of a question."""
MEANINGS: dict[Author, str] = {
    "draft": "drafted, and accepted by the target",
    "unverified draft": "drafted, and not verified",
    "correction": "the target's token in place of a refused one, which stands struck out before it",
    "bonus": "the target's token behind a draft that was accepted whole",
    "target": "the target's token in a round without a draft",
}


@dataclass(frozen=True)
class Answer:
    """An answer of one method.

    Args:
        left_out: tokens at its end that are not shown.
    """

    who: str
    told: str
    prefill: str
    spans: tuple[Span, ...]
    left_out: int


@dataclass(frozen=True)
class Question:
    """A prompt, what was asked in each turn where that is stored, and its answers."""

    prompt_id: str
    category: str
    asked: tuple[str, ...]
    answers: tuple[Answer, ...]
    wrong: bool

    @property
    def begin(self) -> str:
        """The first words of what was asked."""
        first = " ".join(self.asked[0].split()) if self.asked else ""
        return first if len(first) <= 80 else f"{first[:79]}…"


@dataclass(frozen=True)
class View:
    """Some of the prompts.

    Args:
        of: how many there are.
        authors: those that occur, with what they mean.
        missing: why no answer can be shown.
    """

    questions: tuple[Question, ...] = ()
    of: int = 0
    authors: tuple[tuple[Author, str], ...] = ()
    missing: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether an answer is."""
        return any(each.wrong for each in self.questions)


def view(runs: Sequence[Run]) -> View | None:
    """The first prompts, those with a wrong answer before the others; `None` where no method drafts."""
    drafting = [group for group in groups_of(runs) if any(each.drafted for each in group.records)]
    if not drafting:
        return None
    prompts: dict[str, bool] = {}  # by id, whether an answer is wrong
    for group in drafting:
        for each in group.records:
            if not each.repeat:
                wrong = is_wrong(each, group.run.manifest.tasks)
                prompts[each.prompt_id] = prompts.get(each.prompt_id, False) or wrong
    shown = sorted(prompts, key=lambda name: not prompts[name])[:MOST_PROMPTS]
    try:
        written = [(group, in_pieces(group.run, _shortened(group, shown))) for group in drafting]
    except SpecbenchError as error:
        return View(of=len(prompts), missing=error.message)
    questions = tuple(_question(name, prompts[name], written) for name in shown)
    authors = {span.author for each in questions for answer in each.answers for span in answer.spans}
    return View(
        questions, len(prompts), tuple((name, told) for name, told in MEANINGS.items() if name in authors)
    )


def _shortened(group: Group, shown: Sequence[str]) -> list[Generation]:
    """The first repeats of answers to these prompts, without rounds behind the last token that is shown."""
    found = []
    for each in group.records:
        if each.prompt_id in shown and not each.repeat:
            kept, tokens = 0, 0
            while kept < len(each.rounds) and tokens < MOST_TOKENS:
                tokens += len(each.rounds[kept].tokens)
                kept += 1
            found.append(replace(each, rounds=each.rounds[:kept], arrival_ms=each.arrival_ms[:kept]))
    return found


def _question(name: str, wrong: bool, written: Sequence[tuple[Group, Sequence[Written]]]) -> Question:
    own = [(group, each, parts) for group, found in written for each, parts in found if each.prompt_id == name]
    manifest = own[0][0].run.manifest
    asked = list(map(_cut, manifest.turns.get(name, ())))
    for file in manifest.files.get(name, ()):
        asked[file.turn] = f"[{file.kind}] {asked[file.turn]}".strip()
    return Question(name, own[0][1].category, tuple(asked), tuple(_answer(*each) for each in own), wrong)


def _answer(group: Group, shown: Generation, parts: Sequence[Piece]) -> Answer:
    manifest = group.run.manifest
    (whole,) = [each for each in group.records if each.key == shown.key]
    told = ". ".join(filter(None, (counted(parts), scored(shown, manifest)))) + "."
    return Answer(
        who=group.name + (f", turn {shown.turn + 1} of {shown.turns}" if shown.turns > 1 else ""),
        told=told,
        prefill=manifest.prefills.get(shown.prompt_id, ""),
        spans=tuple(spans(parts)),
        left_out=len(whole.tokens) - len(shown.tokens),
    )


def _cut(text: str) -> str:
    return (
        text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS // 2]} [...] {text[-MOST_LETTERS // 2 :]}"
    )
