"""A drafter that goes on behind another's proposal, with a second draft model that the profile names."""

import pytest
from stores import stored

from specbench.api import Decoding, Options, Speculative
from specbench.errors import ExitCode
from specbench.registry import discover
from specbench.results.store import RunStore
from specbench.testing import check_method, tiny_llama

CASCADE = """
from typing import Annotated

from pydantic import Field

from specbench.api import Drafter, Method, Part, SpeculativeMethod, hookimpl


class Settings(Part):
    helper: Annotated[str, Field(description="Which of edge.helpers drafts first")] = "small"
    first: Annotated[int, Field(ge=1, description="How many tokens it drafts")] = 2


class CascadeDrafter(Drafter):
    def __init__(self, small, large, first):
        self._small, self._large, self._first = small, large, first

    def begin(self, request):
        self._small.begin(request)
        self._large.begin(request)
        self._head = 0

    def propose(self, draft_length):
        head = self._small.propose(min(self._first, draft_length)).tokens
        self._head = len(head)
        self._large.append(head)
        return self._large.propose(draft_length)

    def commit(self, tokens, accepted):
        self._small.commit(tokens, min(accepted, self._head))
        return self._large.commit(tokens, accepted)

    def check(self):
        self._small.check()
        self._large.check()


class Cascade(SpeculativeMethod):
    name, summary = "cascade", "a small draft, continued by a larger one"
    api_version = 4
    rules = frozenset({"greedy", "coupled", "one_hot"})
    settings = Settings

    def helpers(self, options):
        return (self.own(options, Settings).helper,)

    def drafter(self, edge, options):
        own = self.own(options, Settings)
        small = edge.helper(own.helper).drafter(options)
        return CascadeDrafter(small, edge.drafter(options), own.first)


@hookimpl
def specbench_method() -> Method:
    return Cascade()
"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "cascade.py"
    path.write_text(CASCADE)
    return path


@pytest.fixture
def with_helper(profile, models, tmp_path):
    """Write a profile whose edge has a second draft model; keyword arguments are fields of that."""
    small = tiny_llama(tmp_path / "small", seed=7, num_hidden_layers=1)

    def write(**fields):
        helpers = {"small": {"model": str(small), **fields}}
        return profile(edge={"helpers": helpers})

    return write


@pytest.mark.parametrize("length", [1, 4, "auto"])
def test_a_cascade_keeps_the_contract(plugin, length):
    check_method(discover([plugin]).get("cascade"), Options(Decoding(), Speculative(draft_length=length)))


def test_a_second_draft_model_is_measured_audited_and_counted_in_memory(
    specbench, with_helper, plugin, tmp_path
):
    done = specbench("run", "cascade", "--profile", with_helper(), "--plugin", plugin, "--json")
    assert done.code == 0
    assert "edge.helpers.small: " in done.err
    manifest = stored(tmp_path).manifest
    assert {"edge", "cloud", "edge.helpers.small"} == manifest.models.keys()
    assert [audit.role for audit in manifest.audits] == ["edge", "cloud", "edge.helpers.small"]
    assert (manifest.unverified, manifest.other_models) == ({}, ())
    assert done.json["methods"]["cascade"]["exact_match"] == 1.0


def test_a_method_that_names_no_second_model_loads_none(specbench, with_helper, tmp_path):
    assert specbench("run", "speculative", "--profile", with_helper()).code == 0
    assert stored(tmp_path).manifest.models.keys() == {"edge", "cloud"}


def test_a_second_model_that_the_profile_lacks_is_refused_before_anything_is_loaded(specbench, profile, plugin):
    done = specbench("run", "cascade", "--profile", profile(), "--plugin", plugin)
    assert done.code == ExitCode.PROFILE
    assert "edge.helpers.small: the profile has no such model" in done.err
    assert "--set edge.helpers.small.model=MODEL" in done.err


def test_a_second_model_of_another_precision_is_refused_as_the_first_would_be(specbench, with_helper, plugin):
    path = with_helper(dtype="bfloat16")
    for command in (["run", "cascade"], ["check-dtype"]):
        done = specbench(*command, "--profile", path, "--plugin", plugin)
        assert done.code == ExitCode.CHECK_FAILED
        assert "edge.helpers.small.dtype is bfloat16 and cloud.dtype is float32" in done.out + done.err


def test_runs_that_both_load_it_differ_in_it_and_others_do_not(specbench, with_helper, models, plugin):
    for command, fields in [
        (("cascade", "--plugin", plugin), {}),
        (("cascade", "--plugin", plugin), {"model": str(models / "draft")}),
        (("speculative",), {}),
        (("speculative",), {"model": str(models / "draft")}),
    ]:
        assert specbench("run", *command, "--profile", with_helper(**fields)).code == 0
    first, second, third, fourth = _ids(specbench)
    refused = specbench("compare", first, second)
    assert (refused.code, "edge.helpers.small" in refused.err) == (ExitCode.UNFAIR, True)
    assert specbench("compare", third, fourth).code == 0


def _ids(specbench):
    import os
    from pathlib import Path

    return RunStore(Path(os.environ["SPECBENCH_RUNS"])).ids()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"threads": 2}, "helpers.small.threads has no effect"), ({"modle": "x"}, "edge.helpers.small.modle")],
)
def test_what_a_second_model_cannot_have_is_refused(specbench, with_helper, fields, reason):
    done = specbench("run", "speculative", "--profile", with_helper(**fields))
    assert done.code == ExitCode.PROFILE
    assert reason in done.err
