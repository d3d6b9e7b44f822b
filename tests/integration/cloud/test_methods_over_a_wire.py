"""What the methods that a wire makes meaningful write and record over one."""

import re
import threading
from dataclasses import replace

import pytest
from builders import generation
from specbench.plugins.cloud_baseline import CloudBaseline
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_colocated import SpeculativeColocated
from specbench.plugins.speculative_pipelined import SpeculativePipelined

from specbench.api import CloudModel, Decoding, EdgeModel, Options, Request, Speculative
from specbench.cloud.served import Served
from specbench.cloud.server.local_channel import LocalChannel
from specbench.cloud.server_matches_profile import demand_engine
from specbench.cloud.transport import place
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.profile import CloudSpec, EdgeSpec, EngineSpec, Gate, LinkSpec
from specbench.speculation.draft_length import LONGEST
from specbench.speculation.grammar import Grammar
from specbench.speculation.stop_strings import StopStrings
from specbench.stats.round_costs import round_costs
from specbench.stats.timings import round_time
from specbench.testing import STOP_ID, answer, tokens_of

PROMPT = tuple(range(10, 40))
REQUEST = Request(PROMPT, 30, frozenset(), 7)
GREEDY = Options(Decoding(), Speculative())
RULES = [
    GREEDY,
    Options(Decoding(temperature=0.8), Speculative(verification="coupled")),
    Options(Decoding(temperature=1.0), Speculative(verification="rejection")),
]
BY_CHANCE = Options(Decoding(), Speculative(synthetic_acceptance=[0.8, 0.5]))
LOSSY = [
    Options(Decoding(temperature=1.0), Speculative(verification="rank")),
    Options(Decoding(temperature=1.0), Speculative(verification="typical")),
]


@pytest.fixture(scope="module")
def edge(models):
    return EdgeModel(EdgeSpec(model=str(models / "draft")))


def cloud_of(models, link=None, **fields):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu", **fields), link=link)


@pytest.fixture(
    scope="module", params=["nothing between", "a link", pytest.param("two ranks", marks=pytest.mark.slow)]
)
def cloud(models, edge, request):
    if request.param == "two ranks":
        cloud = cloud_of(models, placement="process", parallel={"tensor": 2})
        cloud.draft = edge
    else:
        cloud = cloud_of(models, LinkSpec(rtt_ms=2.0) if request.param == "a link" else None)
    yield cloud
    cloud.close()


def counts(rounds):
    return [(part.tokens, part.drafted, part.accepted) for part in rounds]


@pytest.mark.parametrize("options", [*RULES, BY_CHANCE], ids=lambda options: options.speculative.rule)
def test_colocated_rounds_are_those_of_speculative(models, edge, cloud, options):
    colocated = answer(SpeculativeColocated().open(edge, cloud, options), REQUEST)
    here = cloud_of(models)
    assert counts(colocated) == counts(answer(SpeculativeDecoding().open(edge, here, options), REQUEST))
    assert all(part.draft_ms > 0 and part.verify_ms > 0 for part in colocated[1:])


def test_colocated_asks_once_and_sends_no_drafts(models, edge):
    cloud = cloud_of(models, LinkSpec(rtt_ms=2.0))
    rounds = answer(SpeculativeColocated().open(edge, cloud, GREEDY), REQUEST)
    cloud.close()
    assert rounds[0].bytes_up > len(PROMPT)
    assert {part.bytes_up for part in rounds[1:]} == {0}
    assert all(part.bytes_down for part in rounds)


def test_the_link_of_what_the_cloud_says_alone_is_waited_for_once(models, edge):
    cloud = cloud_of(models, LinkSpec(rtt_ms=40.0, uplink_mbps=0.1))
    decoder = CloudOptimizedBaseline().open(edge, cloud, GREEDY)
    sizes, channel = [], cloud.connection.channel
    send = channel.send
    channel.send = lambda message: (sizes.append(len(message)), send(message))[1]
    rounds = answer(decoder, REQUEST)
    cloud.close()
    assert rounds[0].bytes_up == sum(sizes[:2])  # both questions; the third says goodbye
    assert len(sizes) == 3
    assert rounds[0].uplink_ms == pytest.approx(20 + sizes[0] * 8 / 100)  # of the first, which is waited for
    assert rounds[0].rtt_ms >= rounds[0].uplink_ms + rounds[0].downlink_ms
    assert {(part.bytes_up, part.uplink_ms, part.rtt_ms) for part in rounds[1:]} == {(0, None, None)}
    assert [part.streamed for part in rounds] == [False] + [True] * (len(rounds) - 1)
    record = generation(rounds=tuple(rounds), arrival_ms=tuple(float(index) for index in range(len(rounds))))
    assert round_costs([record]).link_share is None
    assert round_time("control", [record]).link_ms is None


def test_every_round_says_what_the_target_computed(models, edge, cloud):
    methods = (CloudOptimizedBaseline(), CloudBaseline(), SpeculativeColocated(), SpeculativeDecoding(),
               SpeculativePipelined())  # fmt: skip
    for method in methods:
        rounds = answer(method.open(edge, cloud, GREEDY), REQUEST)
        assert all(part.verify_ms > 0 for part in rounds), method.name


def test_penalties_and_stop_strings_hold_on_the_other_side_of_a_wire(models, edge, cloud):
    biased = Decoding(presence_penalty=1.5, frequency_penalty=0.3, logit_bias={40: 1.0}, min_new_tokens=3)
    free = tokens_of(
        answer(CloudOptimizedBaseline().open(edge, cloud_of(models), Options(biased, Speculative())), REQUEST)
    )
    assert free != tokens_of(answer(CloudOptimizedBaseline().open(edge, cloud_of(models), GREEDY), REQUEST))
    string = edge.tokenizer.decode(free[8:10], skip_special_tokens=True)
    decoding = biased.model_copy(update={"stop": (string,)})
    request = replace(REQUEST, stop_strings=StopStrings.of(decoding, edge.tokenizer))
    texts = [edge.tokenizer.decode(free[:count], skip_special_tokens=True) for count in range(1, 31)]
    expected = free[: 1 + next(at for at, text in enumerate(texts) if at >= 3 and string in text)]
    methods = (CloudOptimizedBaseline(), CloudBaseline(), SpeculativeColocated(), SpeculativeDecoding(),
               SpeculativePipelined())  # fmt: skip
    for method in methods:
        rounds = answer(method.open(edge, cloud, Options(decoding, Speculative(draft_length=6))), request)
        assert (tokens_of(rounds), rounds[-1].finish_reason) == (expected, "stop"), method.name


def test_a_grammar_holds_on_the_other_side_of_a_wire(models, edge, cloud):
    stops, words = frozenset([STOP_ID]), Options(Decoding(), Speculative(draft_length=6))
    expression = "(ab|cd){3}, so [a-z]{4} and not{2}hing else\\."
    request = Request(PROMPT, 60, stops, grammar=Grammar("regex", expression, stops, edge.tokenizer))
    text = tokens_of(answer(CloudOptimizedBaseline().open(edge, cloud_of(models), words), request))
    assert re.fullmatch(expression, edge.tokenizer.decode(text[:-1]))
    methods = (CloudOptimizedBaseline(), CloudBaseline(), SpeculativeColocated(), SpeculativeDecoding(),
               SpeculativePipelined())  # fmt: skip
    for method in methods:
        rounds = answer(method.open(edge, cloud, words), request)
        assert (tokens_of(rounds), rounds[-1].finish_reason) == (text, "stop"), method.name
        if method.name.startswith("speculative"):
            assert sum(part.forced_accepted for part in rounds[1:]) > 8, method.name
    seen = cloud.recomputed(words, request, text)
    assert (seen.position, seen.positions) == (None, len(text))


def test_a_server_refuses_a_grammar_that_it_would_read_otherwise(connection, edge, monkeypatch):
    target = RemoteTarget(connection[0], GREEDY, True)
    for kind, text, refusal in (("regex", "(a", "not valid"), ("gbnf", "a", "a grammar is one of json_schema")):
        grammar = Grammar(kind, text, frozenset([STOP_ID]), edge.tokenizer)
        with pytest.raises(SpecbenchError, match=refusal):
            target.begin(replace(REQUEST, stop_ids=grammar.stop_ids, grammar=grammar))
    monkeypatch.setattr(place, "demand_llguidance", lambda: "0.1")
    grammar = Grammar("regex", "a", frozenset([STOP_ID]), edge.tokenizer)
    with pytest.raises(SpecbenchError, match=r"by llguidance 0\.1, and the server by "):
        target.begin(replace(REQUEST, stop_ids=grammar.stop_ids, grammar=grammar))


def test_what_a_gate_lets_pass_was_not_verified(models, edge):
    gate = Gate(measure="margin", threshold=0.0)
    options = Options(Decoding(), Speculative(gate=gate))
    rounds = answer(SpeculativeDecoding().open(edge, cloud_of(models), options), REQUEST)
    assert any(part.unverified for part in rounds)
    assert all((part.verify_ms is None) == bool(part.unverified) for part in rounds)


def test_colocated_refuses_a_gate():
    gate = Gate(measure="margin", threshold=0.5)
    with pytest.raises(SpecbenchError, match=r"speculative\.gate is not supported"):
        SpeculativeColocated().validate(Options(Decoding(), Speculative(gate=gate)))


@pytest.fixture
def connection(models):
    cloud = cloud_of(models)
    served = Served(cloud)
    connection = Connection(
        lambda: LocalChannel(served), vocabulary.fingerprint(cloud.tokenizer), lambda facts: None
    )
    yield connection, cloud
    connection.close()


def test_a_cloud_without_a_draft_says_so(connection, edge):
    with pytest.raises(SpecbenchError, match="serve --draft"):
        RemoteTarget(connection[0], GREEDY, True, edge.fingerprint)


def test_a_cloud_with_another_draft_says_so(connection, edge, models):
    connection[1].draft = EdgeModel(EdgeSpec(model=str(models / "target"), layers=1))
    with pytest.raises(SpecbenchError, match="differs from the profile's edge"):
        RemoteTarget(connection[0], GREEDY, True, edge.fingerprint)


@pytest.mark.parametrize("options", RULES[:2], ids=lambda options: options.speculative.verification)
def test_pipelined_text_over_a_link_is_that_of_speculative(models, edge, options):
    cloud = cloud_of(models, LinkSpec(rtt_ms=20.0))
    rounds = answer(SpeculativePipelined().open(edge, cloud, options), REQUEST)
    cloud.close()
    assert counts(rounds) == counts(
        answer(SpeculativeDecoding().open(edge, cloud_of(models), options), REQUEST)
    )
    assert sum(part.wasted_draft_tokens for part in rounds[1:]) > 0  # a stranger drafts, and there is time to


@pytest.mark.parametrize(
    "method", [SpeculativeDecoding(), SpeculativePipelined()], ids=lambda method: method.name
)
def test_lengths_may_be_chosen_over_a_link(models, edge, method):
    cloud = cloud_of(models, LinkSpec(rtt_ms=5.0))
    auto = Options(Decoding(), Speculative(draft_length="auto"))
    rounds = answer(method.open(edge, cloud, auto), REQUEST)
    cloud.close()
    assert tokens_of(rounds) == tokens_of(
        answer(SpeculativeDecoding().open(edge, cloud_of(models), GREEDY), REQUEST)
    )
    assert all(1 <= part.drafted <= LONGEST for part in rounds[1:-1])


def test_a_cloud_in_a_process_of_its_own_drafts_there(models, edge):
    cloud = cloud_of(models, placement="process")
    cloud.draft = edge
    try:
        assert cloud.audit_draft() is None
        rounds = answer(SpeculativeColocated().open(edge, cloud, GREEDY), REQUEST)
        assert cloud.audit_draft() == edge.audit()
    finally:
        cloud.close()
    assert counts(rounds) == counts(answer(SpeculativeDecoding().open(edge, cloud_of(models), GREEDY), REQUEST))


def test_drafts_that_are_drawn_from_a_distribution_take_a_few_hundred_bytes_each(models, edge):
    cloud = cloud_of(models, LinkSpec(rtt_ms=1.0))
    rounds = answer(SpeculativeDecoding().open(edge, cloud, RULES[2]), REQUEST)
    cloud.close()
    for part in rounds[1:]:
        listed = part.drafted * 96  # the whole vocabulary, two bytes an id and two a weight
        assert 0 < part.bytes_up <= 4 * listed + 16 * (part.drafted + 1)


def test_what_is_streamed_runs_on_while_a_round_is_looked_at(models, edge, cloud):
    here = cloud_of(models)
    for method in (CloudOptimizedBaseline(), SpeculativeColocated(), CloudBaseline()):
        assert method.open(edge, cloud, GREEDY).runs_on == cloud.is_wired
        assert not method.open(edge, here, GREEDY).runs_on
    assert not SpeculativeDecoding().open(edge, cloud, GREEDY).runs_on


@pytest.mark.parametrize("method", [CloudOptimizedBaseline(), CloudBaseline()], ids=lambda method: method.name)
def test_a_stream_over_a_wire_is_computed_while_nobody_reads_it(models, edge, method):
    cloud = cloud_of(models, LinkSpec(rtt_ms=1.0))
    decoder = method.open(edge, cloud, GREEDY)
    passes = threading.Semaphore(0)
    cloud.engine.loaded.model.register_forward_hook(lambda *_: passes.release())
    rounds = decoder.generate(REQUEST)
    next(rounds)
    assert all(passes.acquire(timeout=300) for _ in range(REQUEST.max_new_tokens))
    rounds.close()
    cloud.close()


def test_generate_meets_the_link_of_its_prompt_and_is_opened_before_the_clock_runs(models, edge):
    cloud = cloud_of(models, LinkSpec(rtt_ms=5.0, jitter_ms=2.0))
    decoder = CloudBaseline().open(edge, cloud, GREEDY)
    sent = cloud.connection._number
    trips_ms = [answer(decoder, REQUEST)[0].uplink_ms for _ in range(2)]
    assert cloud.connection._number == sent + 2
    assert trips_ms[0] == pytest.approx(trips_ms[1])
    cloud.close()


@pytest.mark.parametrize("options", [*RULES, *LOSSY], ids=lambda options: options.speculative.verification)
def test_a_colocated_text_that_is_resumed_goes_on_with_the_same_drafts(models, edge, options):
    cloud = cloud_of(models)
    whole = cloud.colocated(edge, options)
    commits = [whole.begin(REQUEST)]
    stream = whole.decode()
    commits += [next(stream) for _ in range(4)]
    draws = whole.draws
    expected = [(commit.tokens, commit.accepted) for commit in stream]
    resumed = cloud.colocated(edge, options)
    resumed.resume(REQUEST, [token for commit in commits for token in commit.tokens], draws)
    assert [(commit.tokens, commit.accepted) for commit in resumed.decode()] == expected


def test_a_draft_in_the_cloud_that_another_engine_runs_is_refused():
    demand_engine("eager", EngineSpec(kind="eager"))
    demand_engine("eager", EngineSpec(kind="auto"))
    with pytest.raises(SpecbenchError, match=r"engine\.kind is compiled in the profile and eager there"):
        demand_engine("eager", EngineSpec(kind="compiled"))
