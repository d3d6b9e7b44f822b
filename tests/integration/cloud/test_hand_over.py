"""Proposals sent into a stream, over a wire: held against what was said, and sent again after a cut."""

import time
from dataclasses import replace

import pytest
from builders import shaken
from switching import always_drafting
from test_faults import DOWNWARD, UPWARD, connected, lost
from waiting import wait_until

from specbench.api import RULES as ALL_RULES
from specbench.cloud import EdgeModel
from specbench.cloud.transport import protocol
from specbench.cloud.transport.switching_target import SwitchingTarget
from specbench.errors import SpecbenchError
from specbench.profile import Decoding, EdgeSpec, Options, Speculative
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Needs, Request
from specbench.speculation.target import LocalTarget
from specbench.testing import answer, tokens_of

REQUEST = Request(tuple(range(10, 40)), 60, frozenset(), seed=7)
GREEDY = Options(Decoding(), Speculative())


def options(rule, temperature=1.0):
    return Options(Decoding(temperature=temperature), Speculative(verification=rule))


@pytest.fixture(autouse=True)
def slowly(monkeypatch):
    """A target that takes longer than its draft where it decodes alone, as real ones do."""

    def decoding(self):
        while True:
            time.sleep(0.005)
            commit = yield from self.verified(None)
            yield commit
            if commit.finish_reason:
                return

    monkeypatch.setattr(LocalTarget, "decoding", decoding)


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

    def begin(faults=None):
        running = start()
        opened.append(connected(running.url, cloud, faults))
        return running, opened[-1]

    yield begin
    for one in opened:
        one.close()


def adaptive(draft, connection, asked, request=REQUEST, trees=False):
    target = SwitchingTarget(connection, asked, True, needs=Needs(trees=trees))
    return answer(always_drafting(draft, target, asked, trees=trees), request)


def control(cloud, asked, request=REQUEST):
    """The ids that the target says alone, in this process."""
    target = cloud.target(asked)
    return [*target.begin(request).tokens, *(token for part in target.decode() for token in part.tokens)]


def begun(connection, asked=GREEDY):
    target = SwitchingTarget(connection, asked, True, needs=Needs(trees=True))
    target.goes_on = True
    return target, list(target.begin(REQUEST).tokens)


@pytest.mark.parametrize("trees", [False, True], ids=["chains", "trees"])
@pytest.mark.parametrize("draft", ["never", "often", "always"])
@pytest.mark.parametrize("rule", ["greedy", "coupled"])
def test_the_text_is_the_controls(serving, cloud, drafts, draft, rule, trees):
    asked = options(rule, 1.0 if rule == "coupled" else 0.0)
    _, connection = serving()
    wanted = control(cloud, asked)
    answers = [adaptive(drafts[draft], connection, asked, trees=trees) for _ in range(2)]
    assert [tokens_of(rounds) for rounds in answers] == [wanted, wanted]
    if draft == "always":
        assert any(part.accepted for rounds in answers for part in rounds if part.drafted)
        assert any(part.choice == "tree" for rounds in answers for part in rounds) == trees


def test_rejection_judges_what_is_left_of_a_tree(serving, drafts):
    asked = options("rejection")
    _, connection = serving()
    seen = []
    for seed in range(20):  # which trees the stream overtakes depends on time, and few are accepted
        rounds = adaptive(drafts["often"], connection, asked, replace(REQUEST, seed=seed), trees=True)
        assert len(tokens_of(rounds)) == 60
        seen += [part.accepted for part in rounds if part.choice == "tree"]
        if any(seen):
            break
    assert any(seen)


@pytest.mark.parametrize("rule", sorted(ALL_RULES))
def test_every_rule_may_judge_what_is_left_of_a_proposal(serving, drafts, rule):
    asked = options(rule, 0.0 if ALL_RULES[rule].needs_greedy else 1.0)
    _, connection = serving()
    rounds = adaptive(drafts["often"], connection, asked)
    assert len(tokens_of(rounds)) == 60
    assert all(part.accepted <= part.drafted for part in rounds if part.drafted is not None)


# Of the first connection: Hello, Open, Begin and a Decode come before the proposals.
@pytest.mark.parametrize(
    ("rule", "at", "trees"), [("greedy", 6, False), ("greedy", 9, True), ("coupled", 8, False)]
)
@pytest.mark.parametrize(
    ("way", "fault"),
    [*(("send", fault) for fault in UPWARD), *(("receive", fault) for fault in DOWNWARD)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_in_flight_is_sent_again_over_a_new_connection(
    serving, cloud, drafts, rule, way, fault, at, trees
):
    asked = options(rule, 1.0 if rule == "coupled" else 0.0)
    faults = {(way, at): fault}
    _, connection = serving(faults)
    rounds = adaptive(drafts["often"], connection, asked, trees=trees)
    assert tokens_of(rounds) == control(cloud, asked)
    assert not faults, "the fault did not come about"
    assert connection.interruptions == 1 or (fault is lost and connection.interruptions == 0)


def test_a_stream_that_is_read_no_further_stops_and_leaves_nothing_behind(serving, cloud, drafts):
    running, connection = serving()
    decoder = always_drafting(drafts["often"], SwitchingTarget(connection, GREEDY, True), GREEDY)
    for count in (1, 3, 7):
        rounds = decoder.generate(REQUEST)
        for _ in range(count):
            next(rounds)
        rounds.close()
        assert tokens_of(answer(decoder, REQUEST)) == control(cloud, GREEDY)
    connection.close()
    wait_until(lambda: running.host.held == 0)


@pytest.mark.parametrize("is_right", [True, False])
def test_a_proposal_that_is_ahead_takes_over_and_the_rest_of_it_is_judged(serving, cloud, is_right):
    _, connection = serving()
    wanted = control(cloud, GREEDY)
    target, found = begun(connection)
    found += target.next().tokens
    ahead = wanted[len(found) : len(found) + 20]
    target.send(Proposal(ahead if is_right else [*ahead[:-1], ahead[-1] ^ 1], goes_on=True))
    part = target.next()
    while part.drafted is None:
        found += part.tokens
        part = target.next()
    found += part.tokens
    assert 0 < part.drafted < 20
    assert part.accepted == part.drafted - (not is_right)
    while len(found) < len(wanted):
        found += target.next().tokens
    assert found == wanted


def test_what_is_left_of_a_tree_behind_what_was_said_is_judged(serving, cloud):
    _, connection = serving()
    wanted = control(cloud, GREEDY)
    target, found = begun(connection)
    found += target.next().tokens
    path = wanted[len(found) : len(found) + 20]
    # Beside each token of the path a wrong one.
    tokens = [each for token in path for each in (token ^ 1, token)]
    parents = [2 * (index // 2) - 1 for index in range(len(tokens))]
    target.send(Proposal(tokens, parents=tuple(parents), goes_on=True))
    part = target.next()
    while part.drafted is None:
        found += part.tokens
        part = target.next()
    assert part.drafted == 2 * part.depth < 40
    assert part.accepted == part.depth
    found += part.tokens
    while len(found) < len(wanted):
        found += target.next().tokens
    assert found == wanted


def test_a_proposal_that_is_overtaken_has_no_verdict(serving, cloud):
    running, connection = serving()
    wanted = control(cloud, GREEDY)
    target, found = begun(connection)
    time.sleep(0.05)
    pending = target.send(Proposal(wanted[1:2], goes_on=True))
    while len(found) < len(wanted):
        part = target.next()
        assert part.drafted is None
        found += part.tokens
    assert found == wanted
    assert pending.is_over
    (service,) = running.server._sessions.values()
    wait_until(lambda: (service.drafts, service.dropped) == (1, 1))  # the stream may end before it is read


@pytest.mark.parametrize("behind", [0, 29, 1000])
def test_a_draft_that_starts_where_no_text_is_is_refused(serving, behind):
    _, connection = serving()
    target, _ = begun(connection)
    with pytest.raises(
        SpecbenchError, match=f"a draft starts behind {behind} tokens, and the text is elsewhere"
    ):
        connection.ask(lambda number: protocol.Verify(number, target._text, (9,), (), 0, False, behind, True))


def test_a_draft_that_does_not_say_where_it_starts_is_refused_in_a_stream(serving):
    _, connection = serving()
    target, _ = begun(connection)
    with pytest.raises(SpecbenchError, match="does not say where it starts came into a stream"):
        connection.ask(lambda number: protocol.Verify(number, target._text, (9,), ()))


def test_a_draft_of_an_epoch_that_ended_is_dropped_and_the_stream_goes_on(serving, cloud):
    running, connection = serving()
    target, found = begun(connection)
    wanted = control(cloud, GREEDY)
    wrong = next(token for token in range(90, 96) if token not in wanted[:40])
    # The first is wrong from its first token on, whether it is judged or met by the stream.
    target.send(Proposal((wrong,) * 9, continues=True, goes_on=True))
    for _ in range(3):
        target.send(Proposal((wrong,) * 9, continues=True, goes_on=True))
    while len(found) < len(wanted):
        found += target.next().tokens
    assert found == wanted
    (service,) = running.server._sessions.values()
    wait_until(lambda: service.dropped >= 3)  # the stream may end before they are read
