"""Help: short, complete, and the same everywhere."""

import re
import subprocess
import sys

import pytest
import typer.main

from specbench.cli import GROUPS, app


def commands(command, name=""):
    yield name, command
    for word, each in getattr(command, "commands", {}).items():
        if not each.hidden:
            yield from commands(each, f"{name} {word}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))
OPTIONS = [
    (name, part)
    for name, command in COMMANDS.items()
    for part in command.params
    if not getattr(part, "hidden", False) and part.name != "help"
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_short_help_option_and_ends_with_an_example(specbench, name):
    done = specbench(*name.split(), "-h")
    assert (done.code, done.err) == (0, "")
    last = [line.strip() for line in done.out.splitlines() if line.strip()][-1]
    assert last.startswith("specbench ") or last.startswith("--") or "specbench " in done.out[-300:]
    examples = [line for line in COMMANDS[name].epilog.splitlines() if line.startswith("specbench ")]
    assert 1 <= len(examples) <= 2
    assert all(line.startswith(f"specbench {name}".strip()) or not name for line in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_an_example_are_options_of_its_command(name):
    for line in COMMANDS[name].epilog.splitlines():
        if line.startswith("specbench "):
            words = line.split()[1:]
            called = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in COMMANDS)
            known = {option for part in COMMANDS[called].params for option in part.opts}
            if called in ("submit run", "submit sweep"):
                known |= {option for part in COMMANDS[called.split()[1]].params for option in part.opts}
            assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(("name", "part"), OPTIONS, ids=lambda value: str(getattr(value, "name", value)))
def test_every_option_is_described_by_a_complete_phrase(name, part):
    assert re.match(r"[A-Z].*\.$|closed: .*\.$", part.help), part.help


@pytest.mark.parametrize(("name", "part"), OPTIONS, ids=lambda value: str(getattr(value, "name", value)))
def test_a_flag_has_no_second_form(name, part):
    assert not part.secondary_opts


def test_every_command_stands_in_one_group():
    shown = {name for name in COMMANDS if name and " " not in name}
    assert sorted(shown) == sorted(
        module.__name__.rpartition(".")[2].replace("_", "-")
        for modules in GROUPS.values()
        for module in modules
    )


def test_the_groups_are_shown(specbench):
    out = specbench("--help").out
    for title in GROUPS:
        assert title in out
    assert "--install-completion" in out


def test_a_shell_completes_commands():
    script = "import sys; sys.argv = ['specbench']; from specbench.cli import main; main()"
    environment = {
        "_SPECBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "specbench pl", "COMP_CWORD": "1",
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["plan", "plugins"]
