"""Hints lead somewhere: what they name is a command, an option of it, or a key that a profile has."""

import ast
import re

import pytest
import typer.main
from repository import REPOSITORY

from specbench.cli import app
from specbench.profile.loading import _keys
from specbench.profile.schema import Profile

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OTHERS = re.compile(r"(pip install|uv pip|vllm serve|torchrun|env -u|openssl)[^;,']*")
# Modules below the command line that work for one command alone, so that its options need no name before them.
WORKS_FOR = {
    "benchmark/tuning": "run", "serving_load/edges": "load", "serving_load/recorded": "load",
    "serving_load/load": "load", "cloud/server/serving": "serve", "render/report/output": "report",
    "cluster/submission": "submit run",
    "cluster/launchers": "submit run",
    "distill/settings": "distill", "distill/distillation": "distill", "distill/states": "distill",
    "forecast/assumed": "plan", "forecast/known": "plan",
    "forecast/over": "sweep", "forecast/variants": "replay", "forecast/grid": "replay",
    "forecast/oracle": "replay", "forecast/varied": "replay", "sweeps/autotune": "tune",
    "sweeps/pruning": "tune", "prompts/formats": "prompts prepare", "prompts/sources": "prompts prepare",
}  # fmt: skip
OF_ALL_THAT_USE = {"results/store": {"--runs-dir"}, "cli/__init__": {"--help"}}
# Those that work for commands without --set too.
WITHOUT_PROFILE = (
    *("models/files", "models/embedded", "models/shipped", "models/loading", "models/storage"),
    *("distill/", "render/", "stats/", "forecast/", "sweeps/", "results/store", "registry"),
)
WITH_PROFILE = (
    "forecast/acceptance_trace",
    "forecast/cost_measurement",
    "forecast/trace_making",
    "forecast/traced_drafter",
)


def _takes_no_profile(module):
    return module.startswith(WITHOUT_PROFILE) and module not in WITH_PROFILE


def commands(command, name=""):
    if inner := getattr(command, "commands", None):
        for word, each in inner.items():
            yield from commands(each, f"{name} {word}".strip())
    else:
        yield name, {option for part in command.params for option in (*part.opts, *part.secondary_opts)}


COMMANDS = dict(commands(typer.main.get_command(app)))
COMMANDS["submit run"] |= COMMANDS["run"]
COMMANDS["submit sweep"] |= COMMANDS["sweep"]
GROUPS = {name.split()[0] for name in COMMANDS}
CALL = re.compile(rf"specbench ((?:{'|'.join(GROUPS)})\b(?: [a-z]+)?)[^;,']*")
KEYS = set(_keys(Profile, ""))


def texts(node, names):
    """Every text that an expression may be, with X for what is put in."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return texts(node.body, names) + texts(node.orelse, names)
    if isinstance(node, ast.BoolOp):
        return [text for part in node.values for text in texts(part, names)]
    if isinstance(node, ast.Name):
        return names.get(node.id, [])
    return []


def hints():
    """The hints of all errors, each with its module."""
    for path in sorted([*(REPOSITORY / "specbench").rglob("*.py"), *(REPOSITORY / "plugins").glob("*.py")]):
        module = path.relative_to(REPOSITORY).with_suffix("").as_posix().removeprefix("specbench/")
        nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
        names: dict[str, list[str]] = {}
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names.setdefault(node.targets[0].id, []).extend(texts(node.value, {}))
        for node in nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "hint")]
                for hint in (text for part in given for text in texts(part, names)):
                    yield module, hint


HINTS = sorted(set(hints()))


def test_hints_are_found():
    assert len(HINTS) > 100
    assert any("--resume" in hint for _, hint in HINTS)


@pytest.mark.parametrize(("module", "hint"), [(m, h) for m, h in HINTS if "specbench " in h or "--" in h])
def test_a_hint_names_options_that_its_command_has(module, hint):
    def called(match):
        words, options = match.group(1), set(OPTION.findall(match.group(0)))
        name = next(name for name in (words, words.split()[0]) if name in COMMANDS or name in GROUPS)
        assert options <= COMMANDS.get(name, set())
        return ""

    rest = CALL.sub(called, OTHERS.sub("", hint.replace("specbench --debug", "")))
    kind, _, file = module.partition("/")
    own = WORKS_FOR.get(module, file.replace("_", "-") if kind == "cli" else "")
    known = {each for name, options in COMMANDS.items() if own in (name, name.split()[0]) for each in options}
    assert set(OPTION.findall(rest)) <= known | OF_ALL_THAT_USE.get(module, set()) | (
        set() if kind == "cli" or _takes_no_profile(module) else {"--set"}
    )


@pytest.mark.parametrize(("module", "hint"), [(m, h) for m, h in HINTS if "--set" in h])
def test_a_hint_sets_keys_that_there_are(module, hint):
    keys = re.findall(r"--set ([\w.]+)=", hint)
    assert set(keys) <= KEYS
