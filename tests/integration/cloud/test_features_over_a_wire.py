"""Hidden states of the target over a wire: what a draft reads there, and what they cost."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from faulty import GREEDY, REQUEST, connected, cut_after, cut_before, cut_during, lost, truncated
from listening import Watched
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_colocated import SpeculativeColocated
from specbench.plugins.speculative_eagle import SpeculativeEagle, SpeculativeEagleTree

from specbench.api import CloudModel, Decoding, EdgeModel, Needs, Options, Request, Speculative
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.errors import SpecbenchError
from specbench.profile import Batch, CloudSpec, EdgeSpec, LinkSpec
from specbench.speculation.features import DTYPES, Features
from specbench.testing import answer, tiny_eagle, tokens_of

LAYERS = (0, 1, 2)
METHODS = {method.name: method for method in (SpeculativeEagle(), SpeculativeEagleTree())}
RULES = {
    "greedy": GREEDY,
    "coupled": Options(Decoding(temperature=0.8), Speculative(verification="coupled")),
    "rejection": Options(Decoding(temperature=0.8), Speculative(verification="rejection")),
}


@pytest.fixture(scope="module")
def draft(models, tmp_path_factory):
    """A draft that reads hidden states of the tiny target."""
    folder = tiny_eagle(tmp_path_factory.mktemp("eagle") / "draft", 3, models / "target", LAYERS)
    return EdgeModel(EdgeSpec(model=str(folder)))


def cloud_of(models, link=None, **fields):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu", **fields), link=link)


class Elsewhere:
    """A cloud whose verifier is at the other end of a connection."""

    goes_on_alone = False

    def __init__(self, connection):
        self._connection = connection

    def verifier(self, options, needs):
        return RemoteTarget(self._connection, options, True, needs=needs)


def counts(rounds):
    return [(part.tokens, part.drafted, part.accepted, part.depth) for part in rounds]


def options_of(rule, **settings):
    return Options(RULES[rule].decoding, RULES[rule].speculative, dict.fromkeys(METHODS, settings))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", METHODS)
def test_rounds_over_a_link_are_those_of_one_process(models, draft, cloud, name, rule, dtype):
    far, options = cloud_of(models, LinkSpec(rtt_ms=1.0)), options_of(rule, features=dtype)
    found = answer(METHODS[name].open(draft, far, options), REQUEST)
    far.close()
    assert counts(found) == counts(answer(METHODS[name].open(draft, cloud, options), REQUEST))


@pytest.mark.parametrize("placement", ["ws", pytest.param("process", marks=pytest.mark.slow)])
def test_rounds_on_a_server_are_those_of_one_process(models, draft, cloud, start, placement):
    far = cloud_of(models, placement="process" if placement == "process" else start().url)
    found = answer(SpeculativeEagle().open(draft, far, GREEDY), REQUEST)
    far.close()
    assert counts(found) == counts(answer(SpeculativeEagle().open(draft, cloud, GREEDY), REQUEST))


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_round_counts_the_bytes_of_its_hidden_states(models, draft, dtype):
    far, options = cloud_of(models, LinkSpec(rtt_ms=1.0)), options_of("greedy", features=dtype)
    first, *rounds, last = answer(SpeculativeEagle().open(draft, far, options), REQUEST)
    each = Features(LAYERS, 32, dtype).token_bytes
    assert first.feature_bytes == each * len(REQUEST.prompt_ids)
    for part in rounds:
        assert part.feature_bytes == each * len(part.tokens)
        assert part.feature_bytes < part.bytes_down < part.feature_bytes + 80
    assert last.feature_bytes == 0  # nobody drafts behind the end
    plain = EdgeModel(EdgeSpec(model=str(models / "draft")))
    assert {part.feature_bytes for part in answer(SpeculativeDecoding().open(plain, far, GREEDY), REQUEST)} == {
        None
    }
    far.close()


def test_a_draft_in_the_cloud_reads_them_there_and_none_cross(models, draft, cloud):
    far = cloud_of(models, LinkSpec(rtt_ms=1.0))
    found = answer(SpeculativeColocated().open(draft, far, GREEDY), REQUEST)
    far.close()
    wanted = answer(SpeculativeEagle().open(draft, cloud, GREEDY), REQUEST)
    assert [(part.tokens, part.accepted) for part in found] == [(part.tokens, part.accepted) for part in wanted]
    assert all(part.bytes_down < 100 for part in found)


FAULTS = [("send", cut_before), ("send", cut_during), ("send", lost), ("send", truncated),
          ("receive", cut_after), ("receive", lost)]  # fmt: skip


@pytest.mark.parametrize("at", [3, 7])
@pytest.mark.parametrize(("way", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_draft_goes_on_over_a_new_connection(cloud, draft, start, way, fault, at):
    faults = {(way, at): fault}
    connection = connected(start().url, cloud, faults)
    found = answer(SpeculativeEagle().open(draft, Elsewhere(connection), GREEDY), REQUEST)
    assert not faults, "the fault did not come about"
    assert connection.interruptions == 1
    assert counts(found) == counts(answer(SpeculativeEagle().open(draft, cloud, GREEDY), REQUEST))
    connection.close()


def test_edges_with_and_without_hidden_states_share_passes(models, draft, cloud, start):
    host = Watched(cloud_of(models, batch={"sessions": 4}))
    running = start(host=host, batch=Batch(sessions=4, wait_ms=20))
    plain = EdgeSpec(model=str(models / "draft"))
    asked = [
        (SpeculativeEagle(), draft.spec),
        (SpeculativeDecoding(), plain),
        (SpeculativeEagleTree(), draft.spec),
    ]
    edges = [EdgeModel(spec) for _, spec in asked]
    requests = [Request(tuple(range(10 + at, 40 + at)), 24, frozenset(), at) for at in range(len(asked))]
    wanted = [
        tokens_of(answer(method.open(edge, cloud, GREEDY), request))
        for (method, _), edge, request in zip(asked, edges, requests, strict=True)
    ]
    connections = [connected(running.url, cloud) for _ in asked]

    def one(at):
        return tokens_of(answer(asked[at][0].open(edges[at], Elsewhere(connections[at]), GREEDY), requests[at]))

    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(one, range(len(asked)))) == wanted
    assert max(map(len, host.passes)) > 1
    for connection in connections:
        connection.close()


def test_a_prompt_whose_hidden_states_fit_no_frame_is_refused(start, cloud, monkeypatch):
    monkeypatch.setattr("specbench.cloud.transport.fields.MAX_FRAME_BYTES", (1 << 16) + 384 * 30 - 1)
    connection = connected(start().url, cloud)
    target = RemoteTarget(connection, GREEDY, True, needs=Needs(features=Features(LAYERS, 32)))
    with pytest.raises(
        SpecbenchError, match=r"prompt of 30 tokens are 11520 bytes as float32, and a reply holds 11519"
    ):
        target.begin(REQUEST)
    target.begin(Request(tuple(range(10, 39)), 4, frozenset()))
    connection.close()


def test_layers_that_the_target_does_not_have_are_refused_at_once(start, cloud):
    connection = connected(start().url, cloud)
    with pytest.raises(SpecbenchError, match="it has 2 layers"):
        RemoteTarget(connection, GREEDY, True, needs=Needs(features=Features((1, 3), 32)))
    connection.close()
