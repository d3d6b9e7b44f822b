"""A package with one working method, as `specbench plugins new` writes it."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from specbench.errors import ExitCode, SpecbenchError

TEMPLATE = resources.files("specbench") / "plugin_template"
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "method.py.txt": "specbench_{name}.py",
    "test_contract.py.txt": "tests/test_contract.py",
}
"""By file of the template, where it goes."""


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
    words = {
        "FromThePrompt": "".join(part.capitalize() for part in name.split("_")),
        "from_the_prompt": name,
        "NAME": name,
        "DASHED": dashed,
    }
    package = folder / f"specbench-{dashed}"
    try:
        package.mkdir(parents=True)
        for source, path in FILES.items():
            text = (TEMPLATE / source).read_text(encoding="utf-8")
            for word, given in words.items():
                text = text.replace(word, given)
            target = package / path.format(name=name)
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecbenchError(
            f"{package} cannot be written: {error.strerror}", "choose another name or folder", ExitCode.STORE
        ) from error
    return package
