"""Tiny servers, and a verification of them in this process."""

from contextlib import ExitStack

import pytest
from builders import shaken
from planted import QUESTIONS, Planted

from specbench.api import CloudModel, EdgeModel
from specbench.profile import CloudSpec, EdgeSpec
from specbench.servers.client import Client
from specbench.servers.probing import opened
from specbench.testing import tiny_llama
from specbench.verify.records import Settings
from specbench.verify.verification import Verification


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory):
    """A target and a draft that agrees with it often, not always."""
    folder = tmp_path_factory.mktemp("verify")
    target = tiny_llama(folder / "target", seed=2)
    draft = shaken(folder / "draft", target, 0.1)
    return (
        CloudModel(CloudSpec(model=str(target), device="cpu", dtype="float32")),
        EdgeModel(EdgeSpec(model=str(draft), dtype="float32")),
    )


@pytest.fixture(scope="session")
def far_draft(tiny_pair, tmp_path_factory):
    """A draft that is refused often."""
    folder = shaken(tmp_path_factory.mktemp("far") / "draft", tiny_pair[0].spec.model, 0.3)
    return EdgeModel(EdgeSpec(model=str(folder), dtype="float32"))


@pytest.fixture
def serve(tiny_pair):
    """Start servers of the tiny pair; `drafting` ones draft."""
    target, draft = tiny_pair
    with ExitStack() as stack:

        def start(fault=None, drafting=True, draft=draft, **settings):
            return stack.enter_context(Planted(target, draft if drafting else None, fault, **settings))

        yield start


@pytest.fixture
def verified():
    """The result of a verification of running servers."""

    def call(server, against=None, kind=None, questions=QUESTIONS, **settings):
        chosen = Settings(**{"max_new_tokens": 24, **settings})
        sides = [opened(Client(each.url), kind) for each in (server, against) if each]
        return Verification(sides[0], sides[1] if against else None, questions, chosen).run()

    return call
