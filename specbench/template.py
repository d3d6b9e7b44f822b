"""A package with one working method, as `specbench plugins new` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from specbench.errors import ExitCode, SpecbenchError

METHOD = '''"""A method for specbench."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.api import Drafter, EdgeModel, Method, Options, Proposal, Request, SpeculativeMethod, hookimpl


class PromptDrafter(Drafter):
    """Proposes what followed the last token where it stood in the prompt."""

    def begin(self, request: Request) -> None:
        self._prompt, self._last = list(request.prompt_ids), request.prompt_ids[-1]

    def propose(self, draft_length: int) -> Proposal:
        if self._last not in self._prompt:
            return Proposal()
        start = self._prompt.index(self._last) + 1
        return Proposal(tuple(self._prompt[start : start + draft_length]))

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        self._last = tokens[-1]
        return 0

    def check(self) -> None:
        pass


class FromThePrompt(SpeculativeMethod):
    name, summary, roles = "from_the_prompt", "drafts what followed the last token in the prompt", ("cloud",)
    api_version = 4
    rules = frozenset({"greedy", "one_hot", "coupled"})

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        return PromptDrafter()


@hookimpl
def specbench_method() -> Method:
    return FromThePrompt()
'''
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "specbench-{dashed}"
version = "0.1.0"
description = "A method for specbench"
requires-python = ">=3.10"
dependencies = ["specbench"]

[project.optional-dependencies]
test = ["pytest"]

# The key is the method's name, the value the module that has specbench_method().
[project.entry-points.specbench]
{name} = "specbench_{name}"

[tool.setuptools]
py-modules = ["specbench_{name}"]
"""
TESTS = '''"""The contract that every method of specbench keeps, on a tiny random pair."""

from specbench_{name} import specbench_method

from specbench.testing import check_method


def test_the_method_keeps_the_contract():
    check_method(specbench_method())
'''
README = """# specbench-{dashed}

The method `{name}` for specbench.

    pip install -e '.[test]'
    specbench plugins {name}          # what it is, and its options
    specbench plugins test {name}     # the contract, a line for each check
    pytest                            # the same as a test
    specbench run {name}
"""


def write_package(name: str, folder: Path) -> Path:
    """Write `specbench-NAME` into a folder: pyproject.toml, the method, its tests, a README.

    Raises:
        SpecbenchError: no method can be called so, the package is there already, or it cannot be written.
    """
    name = name.replace("-", "_")
    if not re.fullmatch(r"[a-z]\w*", name):
        raise SpecbenchError(
            f"a method cannot be called '{name}'",
            "use small letters, digits and underscores, such as my_method",
        )
    dashed = name.replace("_", "-")
    package = folder / f"specbench-{dashed}"
    camel = "".join(part.capitalize() for part in name.split("_"))
    method = METHOD.replace("from_the_prompt", name).replace("FromThePrompt", camel)
    files = {
        "pyproject.toml": PROJECT.format(name=name, dashed=dashed),
        f"specbench_{name}.py": method,
        "tests/test_contract.py": TESTS.format(name=name),
        "README.md": README.format(name=name, dashed=dashed),
    }
    try:
        package.mkdir(parents=True)
        for path, text in files.items():
            (package / path).parent.mkdir(exist_ok=True)
            (package / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecbenchError(
            f"{package} cannot be written: {error.strerror}", "choose another name or folder", ExitCode.STORE
        ) from error
    return package
