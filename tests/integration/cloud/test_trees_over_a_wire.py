"""Proposals that are trees, and the target's likeliest ids, over a wire."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from builders import shaken
from faulty import GREEDY, REQUEST, connected, cut_after, cut_before, cut_during, lost, noise, truncated
from listening import Watched
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_tree import SpeculativeTree
from specbench.plugins.token_recycling import TOP_K, TokenRecycling

from specbench.api import CloudModel, Decoding, EdgeModel, Needs, Options, Proposal, Request, Speculative
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.errors import SpecbenchError
from specbench.profile import Batch, CloudSpec, EdgeSpec, LinkSpec
from specbench.testing import answer, tokens_of

METHODS = {method.name: method for method in (SpeculativeTree(), TokenRecycling())}
COUPLED = Options(Decoding(temperature=0.8), Speculative(verification="coupled"))
REJECTION = Options(Decoding(temperature=0.8), Speculative(verification="rejection"))
ASKED = [(SpeculativeTree(), GREEDY), (SpeculativeTree(), COUPLED), (SpeculativeTree(), REJECTION),
         (TokenRecycling(), GREEDY), (TokenRecycling(), COUPLED)]  # fmt: skip
NAMES = [f"{method.name}-{options.speculative.verification}" for method, options in ASKED]
TREES = Needs(trees=True)


@pytest.fixture(scope="module")
def near(models, tmp_path_factory):
    """A draft that agrees often."""
    draft = shaken(tmp_path_factory.mktemp("near") / "near", models / "target", by=0.1)
    return EdgeModel(EdgeSpec(model=str(draft)))


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


@pytest.mark.parametrize(("method", "options"), ASKED, ids=NAMES)
def test_rounds_over_a_link_are_those_of_one_process(models, near, cloud, method, options):
    far = cloud_of(models, LinkSpec(rtt_ms=1.0))
    found = answer(method.open(near, far, options), REQUEST)
    far.close()
    assert counts(found) == counts(answer(method.open(near, cloud, options), REQUEST))
    assert any(part.accepted for part in found)
    assert any(part.drafted > part.depth for part in found if part.depth)


@pytest.mark.parametrize("placement", ["ws", pytest.param("process", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", METHODS)
def test_rounds_on_a_server_are_those_of_one_process(models, near, cloud, start, name, placement):
    running = start()
    far = cloud_of(models, placement="process" if placement == "process" else running.url)
    found = answer(METHODS[name].open(near, far, GREEDY), REQUEST)
    far.close()
    assert counts(found) == counts(answer(METHODS[name].open(near, cloud, GREEDY), REQUEST))


def test_likeliest_ids_cost_bytes_and_no_other_method_pays(models, near):
    far = cloud_of(models, LinkSpec(rtt_ms=1.0))
    kinds, channel = set(), far.connection.channel
    send, receive = channel.send, channel.receive
    channel.send = lambda message: (kinds.add(type(protocol.decode_up(message))), send(message))[1]

    def received(timeout_s=None):
        message = receive(timeout_s)
        kinds.add(type(protocol.decode_down(message)))
        return message

    channel.receive = received
    answer(SpeculativeDecoding().open(near, far, GREEDY), REQUEST)
    assert kinds == {protocol.Open, protocol.Begin, protocol.Verify, answers.Done, answers.Committed}
    rounds = answer(TokenRecycling().open(near, far, GREEDY), REQUEST)
    far.close()
    assert {protocol.VerifyTree, answers.CommittedMore} < kinds
    for part in rounds:
        read = 1 + (part.drafted or 0)
        assert 4 * TOP_K * read < part.bytes_down < 4 * TOP_K * read + 60


FAULTS = [("send", cut_before), ("send", cut_during), ("send", lost), ("send", truncated),
          ("receive", cut_after), ("receive", lost), ("receive", noise)]  # fmt: skip


@pytest.mark.parametrize(("method", "options"), ASKED[2:4], ids=NAMES[2:4])
@pytest.mark.parametrize(("way", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_tree_is_sent_again_over_a_new_connection(cloud, near, start, method, options, way, fault):
    faults = {(way, 7): fault}
    connection = connected(start().url, cloud, faults)
    found = answer(method.open(near, Elsewhere(connection), options), REQUEST)
    assert not faults, "the fault did not come about"
    assert connection.interruptions == 1
    assert counts(found) == counts(answer(method.open(near, cloud, options), REQUEST))
    connection.close()


def test_trees_of_several_edges_share_passes(models, near, cloud, start):
    host = Watched(cloud_of(models, batch={"sessions": 4}))
    running = start(host=host, batch=Batch(sessions=4, wait_ms=20))
    requests = [Request(tuple(range(10 + at, 40 + at)), 24, frozenset(), at) for at in range(len(ASKED))]
    edges = [EdgeModel(near.spec) for _ in ASKED]
    for edge in edges:
        edge.load()
    wanted = [
        answer(method.open(near, cloud, options), request)
        for (method, options), request in zip(ASKED, requests, strict=True)
    ]
    connections = [connected(running.url, cloud) for _ in ASKED]

    def one(at):
        method, options = ASKED[at]
        return tokens_of(answer(method.open(edges[at], Elsewhere(connections[at]), options), requests[at]))

    with ThreadPoolExecutor(len(ASKED)) as pool:
        assert list(pool.map(one, range(len(ASKED)))) == [tokens_of(rounds) for rounds in wanted]
    assert max(map(len, host.passes)) > 1
    for connection in connections:
        connection.close()


def tree_frame(tokens, parents, distributions=(), continues=False):
    return lambda number: protocol.VerifyTree(
        number, 1, tokens, distributions, 0, continues, parents=bytes(parents)
    )


MALFORMED = [
    (tree_frame((5, 6), (0,)), "a tree of 2 tokens has 1 parents"),
    (tree_frame((5,), (0, 1)), "a tree of 1 tokens has 2 parents"),
    (tree_frame((5, 6), (2, 1)), "whose parent does not stand before it"),  # a cycle
    (tree_frame((5,), (1,)), "whose parent does not stand before it"),
    (tree_frame((5, 6), (0, 200)), "whose parent does not stand before it"),
    (tree_frame((5, 5), (0, 0)), "two equal siblings"),
    (tree_frame(tuple(range(4, 68)), (0,) * 64), "a tree of 64 tokens; 1 to 63"),
    (tree_frame((5, 96), (0, 0)), "token id 96 is outside"),
    (tree_frame((5, 6), (0, 0), (b"123456",)), "1 draft distributions came, and 0 are needed"),
    (tree_frame((5, 6), (0, 1), (), True), "no proposal can follow a tree"),
    (tree_frame((), ()), "a tree of 0 tokens"),
]


@pytest.mark.parametrize(("build", "reason"), MALFORMED, ids=[reason[:40] for _, reason in MALFORMED])
def test_a_frame_that_is_no_tree_is_refused_and_the_edge_may_go_on(start, cloud, build, reason):
    connection = connected(start().url, cloud)
    target = RemoteTarget(connection, GREEDY, True, needs=TREES)
    target.begin(REQUEST)
    with pytest.raises(SpecbenchError, match=reason):
        connection.ask(build)
    assert target.verify(Proposal((9, 10, 11), parents=(-1, -1, 0))).drafted == 3
    connection.close()


def test_a_tree_for_a_text_that_was_opened_for_chains_is_refused(start, cloud):
    connection = connected(start().url, cloud)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    with pytest.raises(SpecbenchError, match="opened for chains"):
        target.verify(Proposal((9,), parents=(-1,)))
    connection.close()


def test_a_text_that_was_opened_for_trees_takes_no_drafts_unseen(start, cloud):
    connection = connected(start().url, cloud)
    target = RemoteTarget(connection, GREEDY, True, needs=TREES)
    target.begin(REQUEST)
    with pytest.raises(SpecbenchError, match="is verified whole"):
        connection.ask(lambda number: protocol.Trust(number, 1, (5,)))
    connection.close()


def test_a_server_whose_engine_reads_no_trees_says_so_at_once(start, cloud, monkeypatch):
    monkeypatch.setitem(vars(cloud.engine), "tree_obstacle", "its layers slide")
    connection = connected(start().url, cloud)
    with pytest.raises(SpecbenchError, match="its layers slide"):
        RemoteTarget(connection, GREEDY, True, needs=TREES)
    assert RemoteTarget(connection, GREEDY, True).begin(REQUEST).tokens
    connection.close()
