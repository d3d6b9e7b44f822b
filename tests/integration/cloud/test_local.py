"""A target behind frames says what the target says."""

import pytest
from builders import speculated

from specbench.cloud import CloudModel
from specbench.cloud.served import Served
from specbench.cloud.server.local_channel import LocalChannel
from specbench.cloud.transport import protocol
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.profile import CloudSpec, Decoding, LinkSpec, Options, Speculative
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
SAMPLED = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
PROMPT = tuple(range(10, 40))


@pytest.fixture
def connection(cloud):
    served = Served(cloud)
    connection = Connection(
        lambda: LocalChannel(served), vocabulary.fingerprint(cloud.tokenizer), lambda facts: None
    )
    yield connection
    connection.close()


def alone(target, request):
    commits = [target.begin(request)]
    if not commits[0].finish_reason:
        commits += target.decode()
    return [token for commit in commits for token in commit.tokens]


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_target_behind_frames_decodes_what_the_target_decodes(cloud, edge, connection, options):
    request = Request(PROMPT, 24, frozenset([1]), seed=7)
    here, there = cloud.verifier(options), RemoteTarget(connection, options, True)
    assert alone(there, request) == alone(here, request)
    assert speculated(edge, there, options, request) == speculated(edge, here, options, request)


def test_every_commit_over_the_wire_says_what_it_took(cloud, connection):
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(Request(PROMPT, 24, frozenset()))
    commit = target.verify(Proposal((5, 6, 7)))
    assert commit.bytes_up > 3
    assert commit.bytes_down > 3
    assert commit.wait_ms >= commit.verify_ms > 0
    assert commit.rtt_ms == target.rtt_ms >= 0
    assert commit.uplink_ms is commit.downlink_ms is None, "only the sum is measured"
    assert not commit.streamed


def test_an_answer_that_lay_here_unread_has_no_round_trip(cloud, connection):
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(Request(PROMPT, 24, frozenset()))
    pending = target.submit(Proposal((5, 6, 7)))
    while connection.channel._outbox.empty():
        pass
    commit = pending.result()
    assert commit.rtt_ms is None
    assert commit.link_ms is None


@pytest.mark.parametrize("placed", ["here", "there"])
def test_a_submitted_verification_is_what_verify_returns(cloud, connection, placed):
    request = Request(PROMPT, 24, frozenset())
    targets = [
        cloud.verifier(GREEDY) if placed == "here" else RemoteTarget(connection, GREEDY, True) for _ in "ab"
    ]
    for target in targets:
        target.begin(request)
    pending = targets[0].submit(Proposal((5, 6, 7)))
    with pytest.raises(RuntimeError, match="under way"):
        targets[0].submit(Proposal((5,)))
    with pytest.raises(RuntimeError, match="under way"):
        targets[0].trust((5,))
    expected = targets[1].verify(Proposal((5, 6, 7)))
    commit = pending.result()
    assert pending.is_done
    assert (commit.tokens, commit.accepted) == (expected.tokens, expected.accepted)
    assert commit.wait_ms is not None
    assert targets[0].verify().tokens == targets[1].verify().tokens


@pytest.mark.parametrize("placed", ["here", "there"])
def test_a_text_given_up_in_the_middle_of_a_verification_leaves_nothing_behind(cloud, connection, placed):
    request = Request(PROMPT, 24, frozenset())
    target = cloud.verifier(GREEDY) if placed == "here" else RemoteTarget(connection, GREEDY, True)
    expected = alone(target, request)
    target.begin(request)
    target.submit(Proposal((5, 6, 7)))
    assert alone(target, request) == expected


def test_a_stream_that_is_read_no_further_stops_and_the_text_goes_on_where_it_was(cloud, connection):
    request = Request(PROMPT, 24, frozenset())
    target = RemoteTarget(connection, GREEDY, True)
    expected = alone(cloud.target(GREEDY), request)
    first = target.begin(request)
    stream = target.decode()
    tokens = [*first.tokens, *next(stream).tokens, *next(stream).tokens]
    stream.close()
    while True:
        commit = target.verify()
        target.check()
        tokens += commit.tokens
        if commit.finish_reason:
            break
    assert tokens == expected


def test_tokens_that_a_gate_lets_pass_take_no_round_trip(cloud, connection):
    request = Request(PROMPT, 24, frozenset())
    here, there = cloud.verifier(GREEDY), RemoteTarget(connection, GREEDY, True)
    for target in (here, there):
        target.begin(request)
        target.trust((5, 6))
        target.check()
        target.trust((9,))
    commits = [target.verify(Proposal((3, 4))) for target in (here, there)]
    assert commits[0].tokens == commits[1].tokens
    there.check()
    assert there.remaining == here.remaining


def test_generate_is_streamed_too(cloud, connection):
    request = Request(PROMPT, 24, frozenset())
    target = RemoteTarget(connection, GREEDY, False)
    commits = list(target.generate(request))
    assert [commit.tokens for commit in commits] == [
        commit.tokens for commit in cloud.generate(request, GREEDY.decoding)
    ]
    assert commits[-1].finish_reason == "length"
    assert commits[0].bytes_up > 0
    assert commits[0].rtt_ms >= 0
    assert [commit.streamed for commit in commits] == [False] + [True] * 23
    assert {(commit.bytes_up, commit.rtt_ms) for commit in commits[1:]} == {(0, None)}


def test_what_the_cloud_says_alone_is_asked_for_in_one_round_trip(cloud, connection, monkeypatch):
    target = RemoteTarget(connection, GREEDY, False)
    crossed, channel = [], connection.channel
    send, receive = channel.send, channel.receive
    monkeypatch.setattr(channel, "send", lambda message: (crossed.append("sent"), send(message)))
    monkeypatch.setattr(channel, "receive", lambda *wait: (receive(*wait), crossed.append("received"))[0])
    target.begin(Request(PROMPT, 24, frozenset()))
    assert crossed == ["sent", "sent", "received"]
    assert len(list(target.decode())) == 23
    assert crossed.count("sent") == 2


@pytest.mark.parametrize("budget", [1, 24])
def test_a_text_that_is_over_or_given_up_behind_its_first_token_leaves_the_next_one_alone(
    cloud, connection, budget
):
    target = RemoteTarget(connection, GREEDY, False)
    first = target.begin(Request(PROMPT[5:], budget, frozenset()))
    assert (first.finish_reason == "length") == (budget == 1)
    request = Request(PROMPT, 24, frozenset())
    tokens = [*target.begin(request).tokens, *(token for commit in target.decode() for token in commit.tokens)]
    assert tokens == list(alone(cloud.target(GREEDY), request))
    assert set(connection._waiting) <= {1}  # the greeting


def test_the_cloud_itself_computes_the_proof_of_a_tie(cloud, connection):
    request = Request(PROMPT, 24, frozenset())
    tokens = alone(cloud.target(GREEDY), request)
    passes = ((None, (tokens[0],), False), (4, tuple(tokens[1:4]), False), (4, tuple(tokens[4:8]), True))
    pair = (tokens[6], tokens[6] ^ 1)
    expected = cloud.evidence(GREEDY, request, tokens[:6], passes, pair)
    found = RemoteTarget(connection, GREEDY, True).prove(request, tokens[:6], passes, pair)
    assert found == expected
    assert (found.width, found.is_tie) == (5, False)


class Broken:
    """A model that says nothing of itself."""

    @property
    def facts(self):
        raise SpecbenchError("the model is broken")


def test_an_error_of_the_service_is_heard_as_often_as_it_is_asked(cloud):
    connection = Connection(
        lambda: LocalChannel(Broken()), vocabulary.fingerprint(cloud.tokenizer), lambda facts: None
    )
    for _ in range(2):
        with pytest.raises(SpecbenchError, match="the model is broken"):
            _ = connection.facts
    channel = LocalChannel(Broken())
    channel.send(protocol.encode(protocol.Hello(1, protocol.VERSION, "x")))
    for _ in range(2):
        with pytest.raises(SpecbenchError, match="the model is broken"):
            channel.receive(20)
    channel.close()


def test_a_model_behind_a_link_that_cannot_be_loaded_says_why(models):
    link = LinkSpec(kind="modelled", rtt_ms=1.0)
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", layers=99), link=link)
    with pytest.raises(SpecbenchError, match="fewer than layers: 99"):
        cloud.verifier(GREEDY)
