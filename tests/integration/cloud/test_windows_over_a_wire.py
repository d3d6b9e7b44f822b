"""Several proposals in flight over a wire: dropped unread, lost with their connection, read in one pass."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest
from builders import shaken, speculated
from listening import Watched
from specbench.plugins.speculative import SpeculativeDecoding
from test_faults import DOWNWARD, UPWARD, connected, lost
from waiting import wait_until

from specbench.clock import now_ms
from specbench.cloud import CloudModel, EdgeModel
from specbench.cloud.linked import LinkedCloud
from specbench.cloud.transport import protocol
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.errors import SpecbenchError
from specbench.profile import Batch, CloudSpec, Decoding, EdgeSpec, LinkSpec, Options, Speculative
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.testing import answer, tokens_of

SAMPLED = Decoding(temperature=1.0)
RULES = {"greedy": Decoding(), "coupled": SAMPLED, "rejection": SAMPLED, "block": SAMPLED}
REQUEST = Request(tuple(range(10, 40)), 60, frozenset(), seed=7)
SHORT = replace(REQUEST, max_new_tokens=30)


def options(window=4, rule="greedy"):
    return Options(RULES[rule], Speculative(window=window, verification=rule))


@pytest.fixture(scope="session")
def drafts(models, edge, tmp_path_factory):
    """Drafts that agree with the target never, often and always."""
    near = shaken(tmp_path_factory.mktemp("near") / "near", models / "target", by=0.1)
    specs = {"often": EdgeSpec(model=str(near)), "always": EdgeSpec(model=str(models / "target"))}
    return {"never": edge, **{name: EdgeModel(spec) for name, spec in specs.items()}}


@pytest.fixture
def serving(start, cloud):
    """A server and a connection to it, with the faults of that connection."""
    opened = []

    def begin(faults=None, **settings):
        running = start(**settings)
        opened.append(connected(running.url, cloud, faults))
        return running, opened[-1]

    yield begin
    for one in opened:
        one.close()


def service(running):
    (one,) = running.server._sessions.values()
    return one


# With `auto` it depends on time which proposals there are, and so does a text that is drawn.
@pytest.mark.parametrize(
    ("rule", "window"), [*product(RULES, (2, 8)), ("greedy", "auto"), ("coupled", "auto")], ids=str
)
@pytest.mark.parametrize("draft", ["never", "often", "always"])
def test_the_text_is_what_it_is_in_one_process(serving, cloud, drafts, draft, rule, window):
    asked = options(window, rule)
    # Of drafts that are never right a window's worth is dropped at every token.
    request = replace(REQUEST, max_new_tokens=16 if draft == "never" else 40)
    wanted = speculated(drafts[draft], cloud.verifier(asked), asked, request)
    _, connection = serving()
    target = RemoteTarget(connection, asked, True)
    for _ in range(2):
        assert speculated(drafts[draft], target, asked, request) == wanted


def test_what_is_behind_a_refusal_is_dropped_unread(serving, drafts):
    running, connection = serving()
    target = RemoteTarget(connection, options(), True)
    target.begin(REQUEST)
    text = [target.verify(Proposal()).tokens[0] for _ in range(3)]
    passes = running.host.model.engine.passes
    wrong = [Proposal((9, 9), continues=True), *[Proposal((9, 9), continues=True)] * 3]
    pending = [target.submit(each) for each in wrong]
    commit = pending[0].result()
    assert (commit.accepted, len(commit.tokens)) == (0, 1)
    assert commit.wasted_bytes >= 3 * 10
    follows = target.verify(Proposal())
    assert len(follows.tokens) == 1
    seen = service(running)
    assert (seen.drafts, seen.dropped) == (3 + 4 + 1, 3)
    read_in_vain = seen.dropped - seen.dropped_unread
    assert bool(read_in_vain) == bool(commit.wasted_verify_ms)
    assert running.host.model.engine.passes - passes == 2
    assert text


def test_a_draft_that_is_always_right_has_no_drop(serving, drafts):
    running, connection = serving()
    asked = options(8)
    speculated(drafts["always"], RemoteTarget(connection, asked, True), asked, REQUEST)
    assert service(running).dropped == 0


def test_waiting_proposals_are_read_in_one_pass(serving, cloud, drafts):
    running, connection = serving()
    target = RemoteTarget(connection, options(), True)
    ids = [*speculated(drafts["always"], cloud.verifier(options(1)), options(1), REQUEST)]
    target.begin(REQUEST)
    running.server._worker.submit(
        time.sleep, 0.5
    )  # the first draft waits for its turn, and the others behind it
    first = target.submit(Proposal(tuple(ids[1:3]), continues=True))
    others = [target.submit(Proposal(tuple(ids[at : at + 2]), continues=True)) for at in (3, 5, 7)]
    commits = [pending.result() for pending in (first, *others)]
    assert [list(commit.tokens) for commit in commits] == [ids[at : at + 2] for at in (1, 3, 5, 7)]
    assert [commit.pass_tokens for commit in commits][:1] != [0]
    assert sum(commit.pass_tokens for commit in commits) == 8
    assert 0 in [commit.pass_tokens for commit in commits]
    target.check()


@pytest.fixture(scope="module")
def alone(cloud, drafts):
    """By rule, what a window of four commits in one process."""
    asked = [options(4, rule) for rule in RULES]
    return {each: speculated(drafts["often"], cloud.verifier(each), each, SHORT) for each in asked}


# What is drawn must go on with the right draws, of which there are more at the later draft.
@pytest.mark.parametrize(("rule", "at"), [("greedy", 5), ("greedy", 7), ("rejection", 7)])
@pytest.mark.parametrize(
    ("way", "fault"),
    [*(("send", fault) for fault in UPWARD), *(("receive", fault) for fault in DOWNWARD)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_in_flight_is_sent_again_over_a_new_connection(serving, alone, drafts, rule, way, fault, at):
    asked = options(4, rule)
    faults = {(way, at): fault}
    _, connection = serving(faults)
    assert speculated(drafts["often"], RemoteTarget(connection, asked, True), asked, SHORT) == alone[asked]
    assert not faults, "the fault did not come about"
    # A reply that says of a dropped proposal that it was dropped may be lost: nobody waits for it.
    assert connection.interruptions == 1 or (fault is lost and connection.interruptions == 0)


def test_windows_of_several_edges_share_passes(start, cloud, drafts):
    host = Watched(CloudModel(CloudSpec(model=cloud.spec.model, device="cpu", batch={"sessions": 4})))
    running = start(host=host, batch=Batch(sessions=4, wait_ms=20))
    jobs = [(draft, rule, number) for number, rule in enumerate(("greedy", "coupled")) for draft in drafts]
    requests = [Request(tuple(range(10 + at, 40 + at)), 40, frozenset(), at) for at in range(len(jobs))]
    wanted = [
        speculated(drafts[draft], host.target(options(4, rule), True), options(4, rule), request)
        for (draft, rule, _), request in zip(jobs, requests, strict=True)
    ]
    connections = [connected(running.url, cloud) for _ in jobs]

    def one(at):
        draft, rule, _ = jobs[at]
        asked = options(random.Random(at).choice([2, 4, "auto"]), rule)
        return speculated(drafts[draft], RemoteTarget(connections[at], asked, True), asked, requests[at])

    with ThreadPoolExecutor(len(jobs)) as pool:
        assert list(pool.map(one, range(len(jobs)))) == wanted
    assert max(map(len, host.passes)) > 1
    for connection in connections:
        connection.close()
    wait_until(lambda: host.held == 0)


def test_a_link_is_filled_while_it_is_waited_for(models, drafts):
    spec = CloudSpec(model=str(models / "target"), device="cpu")
    far = LinkedCloud(spec, link=LinkSpec(rtt_ms=60))
    took_ms, texts = {}, {}
    for window in (1, 8):
        decoder = SpeculativeDecoding().open(drafts["always"], far, options(window))
        assert decoder.runs_on == (window > 1)
        list(decoder.generate(REQUEST))
        started = now_ms()
        rounds = answer(decoder, REQUEST)
        took_ms[window], texts[window] = now_ms() - started, tokens_of(rounds)
    far.close()
    assert texts[1] == texts[8]
    assert took_ms[8] < took_ms[1] / 2


def test_the_cloud_refuses_a_draft_of_another_epoch(serving):
    _, connection = serving()
    target = RemoteTarget(connection, options(), True)
    target.begin(REQUEST)
    target._epoch_of_text = 3
    with pytest.raises(SpecbenchError, match="a draft of epoch 3 came in epoch 0"):
        target.verify(Proposal((9,)))


def test_the_cloud_refuses_to_follow_a_draft_without_tokens(serving):
    _, connection = serving()
    target = RemoteTarget(connection, options(), True)
    target.begin(REQUEST)
    with pytest.raises(SpecbenchError, match="without tokens cannot be followed"):
        connection.ask(lambda number: protocol.Verify(number, target._text, (), (), 0, True))
    assert target.verify(Proposal((9,))).tokens


def test_nothing_may_follow_a_proposal_that_does_not_say_so(serving):
    _, connection = serving()
    target = RemoteTarget(connection, options(), True)
    target.begin(REQUEST)
    target.submit(Proposal((9,)))
    with pytest.raises(RuntimeError, match="under way"):
        target.submit(Proposal((9,)))
    target.begin(REQUEST)
