"""The page that lists the architectures: docs/reference/architectures.md."""

from collections.abc import Mapping
from pathlib import Path

from zoo.architectures import model_type
from zoo.judging import Outcome

HEAD = """# Architectures

Tiny random models of {count} architectures, decoded with transformers {version} on a CPU in float32, eagerly,
with the default profile's settings. `tests/zoo` writes this page.

- **works** for the control: every token is what a pass over the whole text without a cache gives.
- **works** for `speculative`: its text is the control's.
- **refused**: `specbench` ends before anything is timed, with the sentence that is shown. TARGET and DRAFT
  stand for the folders of the two models.

Other versions of transformers, real sizes and other dtypes can behave differently.

| architecture | model type | class | control | speculative | why it is refused |
|---|---|---|---|---|---|
"""


def text(outcomes: Mapping[str, Outcome], version: str) -> str:
    """The whole page."""
    rows = [row(name, found) for name, found in outcomes.items()]
    return HEAD.format(count=len(rows), version=version) + "\n".join(rows) + "\n"


def row(name: str, found: Outcome) -> str:
    """The line of one architecture."""
    kind = f"`{found.kind}`" if found.kind else ""
    sentence = found.sentence.replace("|", "\\|")
    return f"| {name} | `{model_type(name)}` | {kind} | {found.control} | {found.speculative} | {sentence} |"


def names(path: Path) -> list[str]:
    """The architectures that a page lists."""
    _, _, rows = path.read_text(encoding="utf-8").partition("|---|---|---|---|---|---|\n")
    return [line.split(" | ")[0].removeprefix("| ") for line in rows.splitlines()]


def is_of(path: Path, version: str) -> bool:
    """Whether a page was written with this version of transformers."""
    return f"with transformers {version} on" in path.read_text(encoding="utf-8")
