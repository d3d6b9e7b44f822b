"""A server on loopback, in a thread of this process, on a tiny model."""

import pytest
from builders import speculated
from faulty import GREEDY, REQUEST, SAMPLED
from listening import Running, Watched

from specbench.cloud import CloudModel, EdgeModel
from specbench.profile import CloudSpec, EdgeSpec


@pytest.fixture(scope="session")
def cloud(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))


@pytest.fixture(scope="session")
def edge(models):
    return EdgeModel(EdgeSpec(model=str(models / "draft")))


@pytest.fixture
def start(cloud):
    """Start servers; they end with the test."""
    running = []

    def begin(host=None, **settings):
        running.append(Running(host or Watched(cloud), **settings))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture(scope="module")
def expected(cloud, edge):
    return {
        id(options): speculated(edge, cloud.verifier(options), options, REQUEST)
        for options in (GREEDY, SAMPLED)
    }
