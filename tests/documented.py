"""Whether all keys of what `--json` prints stand in the section of docs/ that describes it."""

import re
from collections.abc import Iterator

from repository import REPOSITORY

DOCS = REPOSITORY / "docs"
RUN, GRID = "### `run` and `compare`", "### `sweep`, `replay`, `plan --over`"
FILES = "reference/files.md"
# By command, the page and the title of the section; "" is the whole page.
SECTIONS = {
    "run": (FILES, RUN), "compare": (FILES, RUN), "report": (FILES, RUN),
    "sweep": (FILES, GRID), "replay": (FILES, GRID), "plan": (FILES, "### `plan`"),
    "trace": (FILES, "### `trace`"), "limits": (FILES, "### `limits`"), "load": (FILES, "### `load`"),
    "runs": (FILES, "### `runs`"), "prompts": (FILES, "### `prompts describe`"),
    "show": (FILES, "### `show`"), "verify": (FILES, "### `verify`"),
    "recheck": (FILES, "### `recheck`"), "reproduce": (FILES, "### `reproduce`"),
    "leak": (FILES, "### `leak`"),
    "check-dtype": (FILES, "### `check-dtype`"), "distill": (FILES, "### `distill`"),
    "tune": (FILES, "### `tune`"), "link": ("explanation/link.md", ""), "submit": ("how-to/slurm.md", ""),
}  # fmt: skip
# Keys below which there are names that nobody chose, and what those hold is described.
NAMES = ("methods", "dropped", "retries", "percentiles", "models", "clients", "heldout", "edge_device")
# Keys below which another page, or another program, says what there is.
ELSEWHERE = (
    *("profile", "condition", "changes", "audits", "audits_at_end", "switches", "switch_changes", "switch"),
    *("forecasts", "histogram", "tasks", "asked", "report", "settings", "own", "chosen", "over"),
)


def undocumented(arguments: tuple[str, ...], document: object) -> list[str]:
    """The keys of a command's JSON that its section does not name."""
    first = document[0] if isinstance(document, list) and document else document
    is_verification = isinstance(first, dict) and "verify_id" in first  # `compare` prints stored ones
    command = "verify" if is_verification else arguments[0]
    if command == "submit" and "collect" in arguments:
        return []  # prints what `run` or `sweep` does
    page, title = SECTIONS["sweep" if command == "plan" and "--over" in arguments else command]
    text = (DOCS / page).read_text(encoding="utf-8")
    section = text.partition(f"{title}\n")[2].partition("\n###")[0] if title else text
    known = set(re.findall(r'["`](\w+)["`]', section))
    tables = ("costs",) if title != RUN else ()  # of a plan or a replay: the cost table, as it was read
    return sorted({key for key in _keys(document, "", tables) if key not in known})


def _keys(value: object, below: str, tables: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _keys(each, below, tables)
    elif isinstance(value, dict) and below not in (*ELSEWHERE, *tables):
        for key, each in value.items():
            is_name = below in NAMES or key.isdecimal()
            if not is_name:
                yield key
            yield from _keys(each, "" if is_name else key, tables)
