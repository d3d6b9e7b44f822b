"""A method's own options: set by the profile, checked, swept, recorded, and part of what is compared."""

import pytest
from specbench.plugins.prompt_lookup import NgramDrafter

from specbench.api import Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.results.store import RunStore

OPTION = "methods.prompt_lookup.max_ngram"
WITH_OPTION = """
from typing import Annotated
from pydantic import Field
from specbench.api import AutoregressiveDecoder, Method, Part, hookimpl

class Settings(Part):
    width: Annotated[int, Field(description="Width in tokens")]{default}

class Mine(Method):
    name, summary, roles = "mine", "mine", ("cloud",)
    api_version = 4
    settings = {settings}

    def open(self, edge, cloud, options):
        return AutoregressiveDecoder(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Mine()
"""


def recorded(tmp_path):
    store = RunStore(tmp_path / "runs")
    return [store.read(run_id) for run_id in store.ids()]


@pytest.mark.parametrize(("longest", "proposed"), [(1, 9), (2, 1)])
def test_a_longer_ngram_is_looked_up_before_a_shorter_one(longest, proposed):
    drafter = NgramDrafter(max_ngram=longest)
    drafter.begin(Request((6, 9, 5, 6, 1, 5, 6), 8, frozenset()))
    assert drafter.propose(1).tokens == (proposed,)


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        (
            "methods.prompt_lokup.max_ngram=2",
            "there is no method 'prompt_lokup'",
            "did you mean 'prompt_lookup'?",
        ),
        ("methods.prompt_lookup.max_ngrm=2", "methods.prompt_lookup: max_ngrm", "did you mean 'max_ngram'?"),
        ("methods.prompt_lookup.other=2", "methods.prompt_lookup: other", "valid names: max_ngram"),
        ("methods.prompt_lookup.max_ngram=long", "max_ngram: 'long' is refused", None),
        ("methods.prompt_lookup.max_ngram=0", "max_ngram: 0 is refused", None),
        ("methods.speculative.max_ngram=2", "methods.speculative: max_ngram: there is no such key", None),
    ],
)
def test_an_option_that_a_method_does_not_have_is_refused_with_the_nearest_one(setting, message, hint):
    with pytest.raises(SpecbenchError, match=message) as caught:
        discover().demand_settings(load_profile("default", [setting]))
    assert caught.value.exit_code == ExitCode.PROFILE
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("default", "settings", "reason"),
    [
        ("", "Settings", "its option width has no default"),
        (" = 3", "dict", "its settings are a dict, and no Part"),
    ],
)
def test_a_method_whose_options_are_not_well_declared_is_broken(tmp_path, default, settings, reason):
    path = tmp_path / "mine.py"
    path.write_text(WITH_OPTION.format(default=default, settings=settings))
    assert reason in discover([path]).plugins["mine"].error


def test_a_run_records_the_options_of_its_methods_and_no_others(specbench, profile, tmp_path):
    path = profile(methods={"prompt_lookup": {"max_ngram": 2}})
    assert specbench("run", "speculative", "--profile", path).code == 0
    assert specbench("run", "prompt_lookup", "--profile", path).code == 0
    assert specbench("run", "prompt_lookup", "--profile", profile("plain")).code == 0
    methods = [run.manifest.profile["methods"] for run in recorded(tmp_path)]
    assert methods == [{}, {"prompt_lookup": {"max_ngram": 2}}, {"prompt_lookup": {"max_ngram": 3}}]


def test_runs_are_told_apart_by_options_of_a_method_that_both_have(specbench, profile, tmp_path):
    assert specbench("run", "prompt_lookup", "--profile", profile(), "--set", f"{OPTION}=1").code == 0
    assert (
        specbench("run", "prompt_lookup", "speculative", "--profile", profile(), "--set", f"{OPTION}=2").code
        == 0
    )
    assert specbench("run", "speculative", "--profile", profile(), "--set", f"{OPTION}=4").code == 0
    first, second, third = (run.manifest.run_id for run in recorded(tmp_path))
    rows = specbench("compare", first, second, "--json").json["methods"]
    assert {"prompt_lookup@max_ngram=1", "prompt_lookup@max_ngram=2"} <= rows.keys()
    assert "UNFAIR" not in str(rows)
    apart = specbench("compare", second, third, "--json").json["methods"]
    assert not any("max_ngram" in name for name in apart)


def test_a_sweep_varies_an_option_and_refuses_one_that_there_is_not(specbench, profile, tmp_path):
    refused = specbench("sweep", "prompt_lookup", "--profile", profile(), "--over", f"{OPTION}=1,x")
    assert (refused.code, recorded(tmp_path)) == (ExitCode.PROFILE, [])
    swept = specbench("sweep", "prompt_lookup", "--profile", profile(), "--over", f"{OPTION}=1,2", "--json")
    assert swept.code == 0
    assert [row["condition"] for row in swept.json["rows"] if row["method"] == "prompt_lookup"] == [
        {OPTION: 1},
        {OPTION: 2},
    ]


def test_a_job_with_an_option_that_there_is_not_is_refused_before_it_is_submitted(specbench, profile, tmp_path):
    words = ("run", "prompt_lookup", "--profile", profile(), "--set", "methods.prompt_lokup.max_ngram=2")
    done = specbench("submit", *words, "--launcher", "local")
    assert done.code == ExitCode.PROFILE
    assert "did you mean 'prompt_lookup'?" in done.err
    assert not (tmp_path / "runs").exists()
