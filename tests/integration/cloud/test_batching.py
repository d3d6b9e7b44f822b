"""Several edges on one server share its passes, and every text stays what it would be alone."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from builders import speculated
from listening import Watched
from waiting import wait_until

from specbench.cloud import CloudModel
from specbench.cloud.server.batcher import Batcher
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.cloud.transport.socket import SocketChannel
from specbench.engine.session import Block, Passed
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.profile import Batch, CloudSpec, Decoding, EngineSpec, Options, Speculative
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
COUPLED = Options(Decoding(temperature=1.0), Speculative(verification="coupled"))
SAMPLED = Options(Decoding(temperature=1.0), Speculative(verification="one_hot"))
ENGINES = {
    "eager": EngineSpec(kind="eager"),
    "invariant": EngineSpec(kind="compiled", batch_invariant=True),
}
LONG = 5000.0  # a wait that no test sits out


@pytest.fixture(scope="module", params=["eager", pytest.param("invariant", marks=pytest.mark.slow)])
def host(request, models):
    # In float64 the eager engine's near-ties are none.
    dtype = "float64" if request.param == "eager" else "float32"
    spec = CloudSpec(model=str(models / "target"), device="cpu", dtype=dtype, batch={"sessions": 4})
    return Watched(CloudModel(spec, ENGINES[request.param]))


@pytest.fixture(autouse=True)
def no_passes_yet(host):
    host.passes.clear()


@pytest.fixture
def connect(host, edge):
    """Connections to a server; they end with the test."""
    opened = []

    def begin(server):
        key = vocabulary.fingerprint(edge.tokenizer)
        opened.append(Connection(lambda: SocketChannel(server.url), key, lambda facts: None, 10.0))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def request(number, budget=24):
    return Request(tuple(range(10 + number, 40 + 2 * number)), budget, frozenset(), seed=number)


def decoded(edge, target, options, asked):
    commits = [target.begin(asked)]
    commits += target.decode()
    return [token for commit in commits for token in commit.tokens]


def side_by_side(jobs):
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(60) for future in [pool.submit(*job) for job in jobs]]


MIX = [
    (speculated, GREEDY), (decoded, GREEDY), (speculated, COUPLED), (speculated, SAMPLED),
    (decoded, SAMPLED), (speculated, GREEDY),
]  # fmt: skip


def test_edges_that_share_passes_get_the_texts_of_edges_alone(host, edge, start, connect):
    edge.load()
    wanted = [
        how(edge, host.target(options, True), options, request(number))
        for number, (how, options) in enumerate(MIX)
    ]
    server = start(host=host, batch=Batch(sessions=4, wait_ms=50))
    targets = [RemoteTarget(connect(server), options, True) for _, options in MIX]
    jobs = [(how, edge, target, options) for (how, options), target in zip(MIX, targets, strict=True)]
    found = side_by_side([(*job, request(number)) for number, job in enumerate(jobs)])
    assert found == wanted
    assert max(map(len, host.passes)) > 1
    assert all(len(set(sessions)) == len(sessions) <= 4 for sessions in host.passes)


def test_colocated_drafting_shares_its_verifications(host, edge, start, connect):
    host.model.draft = edge
    edge.load()
    wanted = [decoded(edge, host.target(GREEDY, True), GREEDY, request(number)) for number in range(2)]
    server = start(host=host, batch=Batch(sessions=2, wait_ms=LONG))
    targets = [RemoteTarget(connect(server), GREEDY, True, edge.fingerprint) for _ in range(2)]
    first = targets[0].begin(request(0))
    assert first.drafted is None
    assert first.draft_ms > 0
    assert side_by_side([(decoded, edge, targets[n], GREEDY, request(n)) for n in range(2)]) == wanted
    assert max(map(len, host.passes)) == 2


def test_no_edge_is_passed_over_however_many_there_are(host, edge, start, connect):
    server = start(host=host, batch=Batch(sessions=2, wait_ms=LONG))
    targets = [RemoteTarget(connect(server), GREEDY, True) for _ in range(5)]
    for number, target in enumerate(targets):
        target.begin(request(number, budget=40))
    side_by_side([(list, target.decode()) for target in targets])
    everyone = {session for sessions in host.passes for session in sessions}
    assert len(everyone) == 5
    # While all decode, everybody has a turn again before anybody has a third one.
    common = host.passes[: len(host.passes) // 2]
    for session in everyone:
        turns = [place for place, sessions in enumerate(common) if session in sessions]
        assert max(later - earlier for earlier, later in pairwise(turns)) <= 5


def test_a_lone_edge_waits_for_nobody(host, start, connect):
    server = start(host=host, batch=Batch(sessions=4, wait_ms=LONG))
    target = RemoteTarget(connect(server), GREEDY, True)
    idle = RemoteTarget(connect(server), GREEDY, True)
    idle.begin(request(1, budget=1))  # an edge that is there, and has no text
    started = time.monotonic()
    target.begin(request(2))
    assert len([token for commit in target.decode() for token in commit.tokens]) == 23
    assert time.monotonic() - started < LONG / 1000
    assert {len(sessions) for sessions in host.passes} == {1}


def test_a_block_waits_no_longer_than_it_may(host, start, connect):
    server = start(host=host, batch=Batch(sessions=4, wait_ms=100))
    quick, slow = (RemoteTarget(connect(server), GREEDY, True) for _ in range(2))
    slow.begin(request(1))  # and then says nothing
    quick.begin(request(2))
    commit = quick.verify(Proposal((5, 6)))
    assert commit.shared == 1
    assert slow.verify(Proposal((5, 6))).shared == 1


def test_what_an_edge_is_told_of_a_shared_pass(host, start, connect):
    server = start(host=host, batch=Batch(sessions=2, wait_ms=LONG))
    targets = [RemoteTarget(connect(server), GREEDY, True) for _ in range(2)]
    for number, target in enumerate(targets):
        target.begin(request(number))
    commits = side_by_side([(target.verify, Proposal((5, 6, 7))) for target in targets])
    assert [commit.shared for commit in commits] == [2, 2]
    assert all(0 < commit.pass_ms < commit.verify_ms for commit in commits)
    assert abs(commits[0].pass_ms - commits[1].pass_ms) < 1e-6, "it is one pass"


def test_an_edge_that_is_refused_leaves_the_others_their_pass(host, start, connect):
    server = start(host=host, batch=Batch(sessions=2, wait_ms=LONG))
    good, bad = (RemoteTarget(connect(server), GREEDY, True) for _ in range(2))
    for target in (good, bad):
        target.begin(request(3))
    with pytest.raises(SpecbenchError, match="outside the vocabulary"):
        bad.verify(Proposal((10_000,)))
    alone = host.target(GREEDY, True)
    alone.begin(request(3))
    both = side_by_side([(target.verify, Proposal((5, 6))) for target in (good, bad)])
    assert {commit.tokens for commit in both} == {alone.verify(Proposal((5, 6))).tokens}


def test_an_edge_that_goes_while_its_block_waits_is_not_waited_for(host, start, connect):
    server = start(host=host, batch=Batch(sessions=3, wait_ms=LONG), working=0.1)
    ones = [connect(server) for _ in range(3)]
    targets = [RemoteTarget(one, GREEDY, True) for one in ones]
    for number, target in enumerate(targets):
        target.begin(request(number))
    leaving = targets[0].submit(Proposal((5, 6)))  # waits for the other two
    assert not leaving.is_done
    ones[0]._channel.close()
    wait_until(lambda: server.server.sessions == 2)
    commits = side_by_side([(target.verify, Proposal((5, 6))) for target in targets[1:]])
    assert [commit.shared for commit in commits] == [2, 2]
    assert [len(sessions) for sessions in host.passes] == [2]


def test_blocks_that_wait_for_an_edge_alone_are_read_as_soon_as_it_goes(host, start, connect):
    server = start(host=host, batch=Batch(sessions=3, wait_ms=2 * LONG))
    ones = [connect(server) for _ in range(3)]
    targets = [RemoteTarget(one, GREEDY, True) for one in ones]
    for number, target in enumerate(targets):
        target.begin(request(number))
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(target.verify, Proposal((5, 6))) for target in targets[1:]]
        time.sleep(0.2)
        assert not host.passes
        ones[0]._channel.close()  # in the midst of a text, and silent
        assert [future.result(60).shared for future in waiting] == [2, 2]
    assert time.monotonic() - started < LONG / 1000


def test_an_error_in_one_text_is_that_texts_alone(host, start, connect, monkeypatch, capfd):
    server = start(host=host, batch=Batch(sessions=2, wait_ms=LONG))
    good, bad = (RemoteTarget(connect(server), GREEDY, True) for _ in range(2))
    good.begin(request(4))
    bad.begin(request(5))
    broken = next(target for target in host.targets if target._request.seed == 5)
    monkeypatch.setattr(broken._verifier, "verdict", lambda *arguments: 1 / 0)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(target.verify, Proposal((5, 6))) for target in (good, bad)]
        assert jobs[0].result(30).tokens
        with pytest.raises(SpecbenchError, match="the cloud failed: ZeroDivisionError"):
            jobs[1].result(30)
    assert good.verify(Proposal((7,))).tokens
    with pytest.raises(SpecbenchError, match="was not opened, or was lost"):
        bad.verify(Proposal((7,)))


def test_edges_that_come_and_go_leave_nothing_behind(host, edge, start, connect):
    server = start(host=host, batch=Batch(sessions=3, wait_ms=2))
    before = host.held

    def visit(number):
        one = connect(server)
        target = RemoteTarget(one, GREEDY, True)
        stream = target.decode() if target.begin(request(number)) else None
        for _ in range(number):
            next(stream)
        if number % 2:
            one._channel.close()
        else:
            stream.close()
            one.close()

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_until(lambda: server.server.sessions == 0)
    wait_until(lambda: host.held <= before)


def test_a_fault_of_our_own_is_one_edges_and_the_next_replies_come():
    def broken():
        raise RuntimeError("a fault")
        yield

    def sound():
        yield b"a reply"

    async def both():
        with ThreadPoolExecutor(1) as worker:
            async with Batcher(worker, lambda blocks: [], Batch(sessions=2), lambda: 2) as batcher:
                replies = batcher.next(broken()), batcher.next(sound())
                return await asyncio.gather(*replies, return_exceptions=True)

    error, reply = asyncio.run(both())
    assert (str(error), reply) == ("a fault", b"a reply")


def test_at_most_one_prompt_goes_before_a_block_that_has_waited_long_enough():
    log = []

    def prompt(number):
        time.sleep(0.01)
        log.append(number)
        yield b"a first token"

    def step():
        yield Block(None, [1])
        yield b"a reply"

    def read(blocks):
        log.append("read")
        return [Passed(None, 0.0, len(blocks)) for _ in blocks]

    async def all_of_them():
        with ThreadPoolExecutor(1) as worker:
            async with Batcher(worker, read, Batch(sessions=4, wait_ms=1), lambda: 4) as batcher:
                replies = [batcher.next(step()), *(batcher.next(prompt(number)) for number in range(4))]
                return await asyncio.gather(*replies)

    assert len(asyncio.run(all_of_them())) == 5
    assert log.index("read") <= 1
