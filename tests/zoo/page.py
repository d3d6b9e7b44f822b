"""The page that lists the architectures: docs/reference/architectures.md."""

import re
from collections.abc import Mapping
from pathlib import Path

from zoo.architectures import NAMES, model_type
from zoo.judging import NOT_COMPILED, NOT_TRIED, WORKS, Outcome

HEAD = """# Architectures

Tiny random models of {count} architectures, decoded with transformers {version} on a CPU in float32, with the
default profile's settings. `tests/zoo` writes this page. Of them {control} decode, {speculative} speculate,
{compiled} are compiled and {invariant} are batch-invariant{untried}.
What does not work is refused with a sentence.

- **eager**: transformers' own passes. *Works*: every token of the control is what a pass over the whole text
  without a cache gives.
- **compiled**: `engine.kind: compiled` runs it, with such a text. *No*: it runs eagerly, and the run says why.
- **batch-invariant**: `engine.batch_invariant: true` holds for it.
- **speculative**: its text is the control's, both models eager.
{untried_means}- **refused**: `specbench` ends before anything is timed, with the sentence that is shown. TARGET
  and DRAFT stand for the folders of the two models.

Other versions of transformers, real sizes and other dtypes can behave differently.

{columns}
|---|---|---|---|---|---|---|---|
"""
UNTRIED = """- **not tried**: it was not compiled for this page. How to: [development](../development.md#tests).
"""
COLUMNS = "| architecture | model type | class | eager | compiled | batch-invariant | speculative | why not |"
PLACES = {"control": 3, "compiled": 4, "invariant": 5, "speculative": 6}
"""Where a row says what became of each."""


def text(lines: Mapping[str, str], version: str) -> str:
    """The whole page.

    Args:
        lines: the row of each architecture by its name.
    """
    cells = [line.split(" | ") for line in lines.values()]
    counts = {name: sum(row[place] == WORKS for row in cells) for name, place in PLACES.items()}
    untried = sum(row[PLACES["compiled"]] == NOT_TRIED for row in cells)
    head = HEAD.format(
        count=len(cells),
        version=version,
        columns=COLUMNS,
        untried=f"; {untried} were not tried compiled" * bool(untried),
        untried_means=UNTRIED * bool(untried),
        **counts,
    )
    return head + "\n".join(lines[name] for name in sorted(lines)) + "\n"


def keep(path: Path, name: str, found: Outcome, version: str) -> None:
    """Put the row of an outcome on a page, whose other rows stay where they are of the same version."""
    lines = _lines(path) if is_of(path, version) else {}
    known = {each: line for each, line in lines.items() if each in NAMES}
    path.write_text(text({**known, name: row(name, found)}, version), encoding="utf-8")


def row(name: str, found: Outcome) -> str:
    """The line of one architecture."""
    kind = f"`{found.kind}`" if found.kind else ""
    reasons = [found.sentence] if found.sentence else []
    which = "compiled" if found.compiled == NOT_COMPILED else "batch-invariant"
    reasons += [f"not {which}: {found.uncompiled}"] if found.uncompiled else []
    cells = [name, f"`{model_type(name)}`", kind, found.control, found.compiled, found.invariant]
    return f"| {' | '.join([*cells, found.speculative, '; '.join(reasons).replace('|', chr(92) + '|')])} |"


def says(path: Path, name: str, found: Outcome) -> bool:
    """Whether a page has the row of an outcome; what was not tried may stand there in any way."""
    if found.compiled != NOT_TRIED:
        return row(name, found) in rows(path)
    return any(_untried(line) == _untried(row(name, found)) for line in rows(path))


def _untried(line: str) -> list[str]:
    """A row without what the compiled engine makes of the architecture."""
    name, kind, model, control, _, _, speculative, reasons = line.split(" | ")
    sentence = re.split("(?:^|; )not (?:compiled|batch-invariant): ", reasons.removesuffix("|").strip())[0]
    return [name, kind, model, control, speculative, sentence]


def names(path: Path) -> list[str]:
    """The architectures that a page lists."""
    return [line.split(" | ")[0].removeprefix("| ") for line in rows(path)]


def is_tried(path: Path, name: str) -> bool:
    """Whether a page says what the compiled engine makes of an architecture."""
    return name in names(path) and _lines(path)[name].split(" | ")[PLACES["compiled"]] != NOT_TRIED


def _lines(path: Path) -> dict[str, str]:
    return dict(zip(names(path), rows(path), strict=True))


def rows(path: Path) -> list[str]:
    """The lines of a page's table."""
    return path.read_text(encoding="utf-8").partition(f"{COLUMNS}\n")[2].splitlines()[1:]


def is_of(path: Path, version: str) -> bool:
    """Whether a page was written with this version of transformers."""
    return path.is_file() and f"with transformers {version} on" in path.read_text(encoding="utf-8")
