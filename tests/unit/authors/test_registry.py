"""Plugins: found, isolated, and named when they clash."""

import subprocess
import sys

import pytest
from builders import PLUGIN as GOOD

from specbench import hooks
from specbench.errors import ExitCode, SpecbenchError
from specbench.registry import discover

OURS = {"edge_baseline", "cloud_baseline", "cloud_optimized_baseline", "speculative"}


@pytest.fixture
def plugin_file(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_our_four_methods_are_found():
    assert set(discover().methods) >= OURS


def test_a_file_brings_a_method(plugin_file):
    assert "mine" in discover([plugin_file(GOOD.format(name="mine"))]).methods


SEVERAL = """
class Second(Mine):
    name = "second"

class Broken(Mine):
    name, roles = "third", ("fog",)

@hookimpl
def specbench_method():
    return {returned}
"""


def test_one_hook_brings_several_methods_and_a_broken_one_breaks_no_other(plugin_file):
    text = GOOD.format(name="mine").partition("@hookimpl")[0]
    path = plugin_file(text + SEVERAL.format(returned="[Mine(), Broken(), Second()]"), "family.py")
    registry = discover([path])
    assert {"mine", "second"} <= registry.methods.keys()
    assert "a role is 'edge' or 'cloud'" in registry.plugins["third"].error
    assert registry.plugins["mine"].code.sha256 == registry.plugins["second"].code.sha256
    none = discover([plugin_file(text + SEVERAL.format(returned="[]"), "none.py")])
    assert "returned no method" in none.plugins["none"].error


def test_an_installed_package_brings_a_method(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(GOOD.format(name="from_a_stranger"))
    info = tmp_path / "stranger-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[specbench]\nfrom_a_stranger = stranger\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = discover().plugins["from_a_stranger"]
    assert plugin.method is not None
    assert (plugin.source, plugin.version) == ("stranger of stranger", "1.2")
    sys.modules.pop("stranger")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("x = 1", "no specbench_method"),
        ("from specbench.api import hookimpl\n@hookimpl\ndef specbench_method(): return 3", "not a Method"),
        (
            "from specbench.api import hookimpl\n@hookimpl\ndef specbench_method(): raise OSError('no')",
            "OSError: no",
        ),
        (GOOD.format(name="mine").replace('("cloud",)', '("fog",)'), "a role is 'edge' or 'cloud'"),
        (GOOD.format(name="mine").replace("api_version = 4", "api_version = 0"), "API version 0"),
        (GOOD.format(name="my-method"), "'my-method'; a name has letters, digits and underscores"),
    ],
)
def test_a_broken_plugin_breaks_no_other_and_says_why_when_asked_for(plugin_file, text, reason):
    registry = discover([plugin_file(text)])
    assert set(registry.methods) >= OURS
    assert reason in registry.plugins["mine"].error
    with pytest.raises(SpecbenchError, match="Traceback") as caught:
        registry.get("mine")
    assert caught.value.exit_code == ExitCode.PLUGIN


def test_a_plugin_that_does_not_say_its_version_is_of_the_one_in_which_that_was_first_asked(plugin_file):
    silent = plugin_file(GOOD.format(name="mine").replace("api_version = 4", ""))
    assert "written for API version 3" in discover([silent]).plugins["mine"].error


def test_two_plugins_of_one_name_are_an_error_that_names_both(plugin_file):
    path = plugin_file(GOOD.format(name="speculative"))
    with pytest.raises(SpecbenchError, match=rf"specbench\.plugins\.speculative and {path}") as caught:
        discover([path]).get("speculative")
    assert caught.value.exit_code == ExitCode.PLUGIN


def test_two_plugins_of_one_name_stop_no_other_and_both_are_listed(plugin_file):
    paths = [plugin_file(GOOD.format(name="speculative"), f"{name}.py") for name in ("first", "second")]
    registry = discover(paths)
    assert registry.get("cloud_baseline").name == "cloud_baseline"
    shown = [plugin for name, plugin in registry.plugins.items() if name.partition(" ")[0] == "speculative"]
    assert {plugin.source for plugin in shown} == {"specbench.plugins.speculative", *map(str, paths)}
    assert all("3 plugins bring a method of this name" in plugin.error for plugin in shown)
    assert "speculative" not in registry.methods


def test_a_name_that_a_broken_file_may_have_been_meant_to_bring_shows_what_broke_it(plugin_file):
    path = plugin_file("import nothing_of_this_name", "broken.py")
    with pytest.raises(
        SpecbenchError, match=rf"no method 'mine', and {path} is broken: (?s:.)*Traceback"
    ) as caught:
        discover([path]).get("mine")
    assert caught.value.exit_code == ExitCode.PLUGIN


def test_a_draft_of_ones_own_is_written_with_the_api_alone_which_brings_no_torch():
    script = (
        "import sys, specbench.api as api\n"
        "assert 'torch' not in sys.modules\n"
        "from specbench.api import DraftDistribution\n"
        "assert 'torch' not in sys.modules\n"
        "assert all(getattr(api, name) for name in api.__all__)\n"
        "from specbench.api import Drafter, Target\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_broken_plugin_does_not_take_the_name_of_one_that_works(plugin_file):
    registry = discover([plugin_file("import nothing_of_this_name", "speculative.py")])
    assert registry.get("speculative").name == "speculative"
    assert len(registry.plugins) == len(discover().plugins) + 1


def test_dashes_are_understood_and_the_nearest_name_is_offered():
    assert discover().get("edge-baseline").name == "edge_baseline"
    with pytest.raises(SpecbenchError, match="no method 'speculativ'") as caught:
        discover().get("speculativ")
    assert caught.value.hint == "did you mean 'speculative'?"


def test_every_hook_is_documented_and_typed():
    specifications = [value for name, value in vars(hooks).items() if name.startswith("specbench_")]
    assert specifications
    for hook in specifications:
        assert hook.__doc__
        assert hook.__doc__.strip().count("\n") == 0
        assert "return" in hook.__annotations__
