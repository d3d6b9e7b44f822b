"""`specbench plugins`: a method's options, a package to begin with, the contract a line for each check."""

import os
import subprocess
import sys
import venv

import pytest
from blocks import explained_method

from specbench.errors import ExitCode
from specbench.template import TEMPLATE

BROKEN = """
from specbench.api import AutoregressiveDecoder, Decoder, Method, Round, hookimpl

class Overrunning(Method):
    name, summary, roles = "overrunning", "goes on behind its budget", ("cloud",)
    api_version = 4

    def open(self, edge, cloud, options):
        class Overrun(AutoregressiveDecoder):
            def generate(self, request):
                yield from super().generate(request)
                yield Round(tokens=(5,))

        return Overrun(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Overrunning()
"""


def test_a_method_is_shown_with_type_default_and_meaning_of_its_options(specbench):
    shown = specbench("plugins", "prompt_lookup").out
    row = next(line for line in shown.splitlines() if "methods.prompt_lookup.max_ngram" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "methods.prompt_lookup.max_ngram",
        "integer from 1 to 16",
        "3",
        "Longest n-gram to look up, in tokens",
    ]
    assert "no options" in specbench("plugins", "speculative").out


def test_a_method_that_there_is_not_is_named_with_the_nearest_one(specbench):
    done = specbench("plugins", "promptlookup")
    assert done.code == ExitCode.USAGE
    assert "did you mean 'prompt_lookup'?" in done.err


def test_the_method_of_a_new_package_is_the_one_that_the_docs_explain():
    code = explained_method().strip()
    assert code in (TEMPLATE / "method.py.txt").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 40


@pytest.mark.slow
def test_a_new_package_is_installed_found_and_passes_its_own_tests(specbench, tmp_path):
    """A clean environment with the new package; specbench and its dependencies are borrowed from this one."""
    assert specbench("plugins", "new", "my-idea", "--in", tmp_path).code == 0
    package = tmp_path / "specbench-my-idea"
    assert specbench("plugins", "new", "my-idea", "--in", tmp_path).code == ExitCode.STORE
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    there = next((tmp_path / "venv").glob("lib/*/site-packages"))
    (there / "borrowed.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in borrowed)
    )

    def call(*words):
        command = [python, "-m", *words]
        return subprocess.run(
            command, cwd=package, capture_output=True, text=True, env=dict(os.environ), timeout=300
        )

    installed = call("pip", "install", "-q", "--no-deps", str(package))
    assert installed.returncode == 0, installed.stderr
    assert "specbench_my_idea of specbench-my-idea" in call("specbench", "plugins", "my_idea").stdout
    tested = call("pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout


@pytest.mark.parametrize("name", ["", "9lives", "a b"])
def test_a_package_is_not_begun_under_a_name_that_no_method_can_have(specbench, tmp_path, name):
    done = specbench("plugins", "new", name, "--in", tmp_path)
    assert done.code == ExitCode.USAGE
    assert f"cannot be called '{name}'" in done.err


def test_the_contract_is_run_on_a_file_with_a_line_for_each_check(specbench, tmp_path):
    specbench("plugins", "new", "mine", "--in", tmp_path)
    done = specbench("plugins", "test", tmp_path / "specbench-mine" / "specbench_mine.py")
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok     mine: It ") for line in lines[:-1])


def test_the_contract_names_what_a_method_breaks_and_exits_1(specbench, tmp_path):
    path = tmp_path / "overrunning.py"
    path.write_text(BROKEN)
    done = specbench("plugins", "test", path)
    assert done.code == ExitCode.CHECK_FAILED
    assert "failed overrunning: It commits as many tokens as the budget where nothing stops it: " in done.out
    assert "committed 25 tokens of a budget of 24" in done.out
    assert "ok     overrunning: It opens" in done.out


def test_a_broken_file_shows_its_traceback_and_exits_6(specbench, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name")
    done = specbench("plugins", "test", path)
    assert done.code == ExitCode.PLUGIN
    assert "ModuleNotFoundError" in done.err
    assert specbench("plugins", "test", tmp_path / "absent.py").code == ExitCode.USAGE
