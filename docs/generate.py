"""Write the generated parts of the reference anew: `python docs/generate.py`.

A page marks such a part with `<!-- generated: WHAT -->` and `<!-- end -->`. The rest is written by hand. WHAT
is `command NAME` (from the command line), `commands` (their list), `profile PART` (from the profile's fields)
or `methods` (from the registry). `tests/unit/docs/test_generated.py` fails where a page is stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference"
MARK = re.compile(r"(<!-- generated: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
EXTRA = re.compile(r"  \[[^\[\]]*(\[[^\[\]]*\][^\[\]]*)*\]$")
EXAMPLES = "<!-- not run here: examples of the help, whose options a test checks -->"
UNITS = {"_ms": "ms", "_mbps": "Mbit/s"}


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cell(text: str) -> str:
    """Text as it may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


# The command line


def commands() -> dict[str, Any]:
    """Every command that is shown, by the words that call it."""
    import typer.main

    from specbench.cli import app

    def below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner and not (name and command.invoke_without_command and command.params):
            for word, each in inner.items():
                yield from below(each, f"{name} {word}".strip())
        elif not command.hidden:
            yield name, command
            for word, each in (inner or {}).items():
                yield from below(each, f"{name} {word}")

    return dict(below(typer.main.get_command(app), ""))


def command_part(name: str) -> str:
    """Usage, help, arguments, options and examples of one command."""
    command = commands()[name]
    arguments = [argument(param) for param in command.params if param.param_type_name == "argument"]
    usage = " ".join(["specbench", name, command.options_metavar, *arguments])
    paragraphs = (command.help or "").strip().split("\n\n")
    parts = [prose(each) for each in paragraphs if each.strip()]
    text = f"\n```text\n{usage}\n```\n\n" + "\n\n".join(parts) + "\n\n"
    if rows := command_rows(name):
        text += table(["argument or option", "default", "meaning"], rows) + "\n"
    if command.epilog:
        text += prose(command.epilog) + "\n\n"
    return text


def command_rows(name: str) -> list[list[str]]:
    """Every argument and option of one command: how it is given, its default, its meaning."""
    import typer

    command = commands()[name]
    context = typer.Context(command, info_name=f"specbench {name}")
    return [option_row(param, context) for param in command.params if not param.hidden]


def prose(paragraph: str) -> str:
    """A paragraph of a help text; lines that are commands become a block."""
    lines = [line.strip() for line in paragraph.replace("\b", "").splitlines() if line.strip()]
    examples = [line for line in lines if line.startswith("specbench ")]
    rest = " ".join(line for line in lines if line not in examples)
    block = f"{EXAMPLES}\n```bash\n" + "\n".join(examples) + "\n```" if examples else ""
    return "\n\n".join(part for part in (rest, block) if part)


def argument(param: Any) -> str:
    """How usage names an argument."""
    name = (param.metavar or param.name.upper()).strip("[]").removesuffix("...")
    several = "..." if param.nargs == -1 else ""
    return f"{name}{several}" if param.required else f"[{name}]{several}"


def option_row(param: Any, context: Any) -> list[str]:
    """How a parameter is given, its default, its meaning."""
    given, text = param.get_help_record(context)
    meaning, _, extra = text.rstrip("]").rpartition("  [") if EXTRA.search(text) else (text, "", "")
    facts = dict(part.partition(": ")[::2] for part in extra.split("; "))
    default = "required" if "required" in facts else f"`{facts['default']}`" if "default" in facts else ""
    variable = f" Environment variable: `{facts['env var']}`." if "env var" in facts else ""
    again = " Repeatable." if param.multiple and "repeatable" not in meaning.lower() else ""
    if param.param_type_name == "argument":
        names = argument(param)
    else:
        kind = "" if param.is_flag else f" {param.metavar or value_name(given)}"
        names = ", ".join([*param.opts, *param.secondary_opts]) + kind
    shown = "` \\| `".join(names.split("|"))  # in code, only one of GitHub and mkdocs reads an escape
    return [f"`{shown}`", cell(default), cell(meaning + again + variable)]


def value_name(given: str) -> str:
    """What an option takes; typer's versions write the types in different ways."""
    kind = given.rpartition(" --")[2].partition(" ")[2].strip("<[]>")
    if "|" in kind:
        return kind
    words = {"int": "N", "float": "NUMBER", "path": "PATH", "file": "PATH"}
    return next((word for name, word in words.items() if name in kind.lower()), "TEXT")


# The profile


def profile_part(part: str) -> str:
    """The table of one part of the profile."""
    return "\n" + table(["key", "type", "default", "meaning"], profile_rows(part)) + "\n"


def profile_rows(part: str) -> list[list[str]]:
    """Every key of one part of the profile: type, default, meaning."""
    from specbench.profile.schema import Profile

    schema = Profile.model_json_schema()
    return list(key_rows(part, schema["properties"][part], part in schema["required"], schema["$defs"]))


def key_rows(key: str, field: dict[str, Any], needed: bool, parts: dict[str, Any]) -> Iterator[list[str]]:
    """The row of a key, and those of the keys below it."""
    choices = field.get("anyOf", [field])
    inner = next((each["$ref"].rpartition("/")[2] for each in choices if "$ref" in each), None)
    if inner is None or "anyOf" in field:
        default = "needed" if needed else f"`{shown(field['default'])}`"
        yield [f"`{key}`", type_of(key, choices), default, cell(field["description"])]
    if inner:
        below = parts[inner]
        for name, each in below["properties"].items():
            yield from key_rows(f"{key}.{name}", each, name in below.get("required", ()), parts)


def shown(value: object) -> str:
    """A default as it stands in a profile."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def type_of(key: str, choices: list[dict[str, Any]]) -> str:
    """What a key takes, in words."""
    unit = next((unit for suffix, unit in UNITS.items() if key.endswith(suffix)), "")
    words = [part for each in choices for part in in_words(each, unit)]
    return cell(", or ".join(words))


def in_words(choice: dict[str, Any], unit: str) -> list[str]:
    """One of the types that a key takes."""
    if "enum" in choice:
        return [
            ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in choice["enum"])
        ]
    if "const" in choice:
        return [f"`{choice['const']}`"]
    kind = choice.get("type", "object")
    if "examples" in choice:
        return ["text such as " + ", ".join(f"`{each}`" for each in choice["examples"])]
    if kind in ("integer", "number"):
        return [", ".join(part for part in (f"{kind} {bounds(choice)}".strip(), unit) if part)]
    if kind == "array":
        items = choice.get("items", {}).get("type", "integer")
        return ["list of texts" if items == "string" else f"list of {items}s"]
    names = {"boolean": "`true`, `false`", "null": "null", "string": "text"}
    return [names.get(kind, "mapping")]


def bounds(choice: dict[str, Any]) -> str:
    """Between which values a number lies."""
    low, high = choice.get("minimum"), choice.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    above, below = choice.get("exclusiveMinimum"), choice.get("exclusiveMaximum")
    signs = {"≥": low, ">": above, "≤": high, "<": below}
    return ", ".join(f"{sign} {value}" for sign, value in signs.items() if value is not None)


# Methods


def methods_part() -> str:
    """Every method that is shipped: what it loads, what it is, which rules judge its drafts, its options."""
    from specbench.profile import Decoding, Options, Speculative
    from specbench.registry import discover
    from specbench.speculation.rules import RULES

    options, rows = Options(Decoding(), Speculative()), []
    known = discover().methods.items()
    shipped = {name: each for name, each in known if type(each).__module__.startswith("specbench.plugins")}
    for name, method in sorted(shipped.items()):
        rules = sorted(getattr(method, "rules", ()))
        text = {True: "the control's", False: "lossy", None: "the draft's own"}[method.lossless(options)]
        fields = method.settings.model_fields.items()
        own = "; ".join(f"`{key}` = {field.default}: {field.description}" for key, field in fields)
        judged = "all" if len(rules) == len(RULES) else ", ".join(f"`{rule}`" for rule in rules)
        rows.append([f"`{name}`", " and ".join(method.roles), cell(method.summary), text, judged, cell(own)])
    titles = ["method", "models", "what it does", "text", "verification rules", "options of its own"]
    return "\n" + table(titles, rows) + "\n"


def command_list() -> str:
    """All commands, with the first sentence of their help and a link."""
    pages = {name: page for page in sorted(REFERENCE.glob("commands/*.md")) for name in marked(page)}
    rows = []
    for name, command in commands().items():
        anchor = name.replace(" ", "-")
        link = f"[`{name}`](commands/{pages[name].name}#{anchor})"
        rows.append([link, cell((command.help or "").strip().partition("\n\n")[0])])
    return "\n" + table(["command", "what it does"], rows) + "\n"


def marked(page: Path) -> list[str]:
    """The commands that a page describes."""
    return re.findall(r"<!-- generated: command (.+?) -->", page.read_text(encoding="utf-8"))


def generated(page: Path) -> str:
    """The page with its generated parts made anew."""

    def part(mark: re.Match[str]) -> str:
        what, _, name = mark[2].partition(" ")
        text = {"commands": command_list, "methods": methods_part}.get(what)
        made = text() if text else {"command": command_part, "profile": profile_part}[what](name)
        return f"{mark[1]}{made}{mark[4]}"

    return MARK.sub(part, page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """The pages that have generated parts."""
    return [page for page in sorted(REFERENCE.rglob("*.md")) if MARK.search(page.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for path in pages():
        new = generated(path)
        if new != path.read_text(encoding="utf-8"):
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.relative_to(REFERENCE.parent)}")
