"""What drafting ahead does to the rounds of a text: nothing but to begin them earlier."""

import pytest
from builders import mapped_draft, shaken
from far import FarCloud, Hurried, Unhurried
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_ahead import SpeculativeAhead
from specbench.plugins.speculative_pipelined import SpeculativePipelined

from specbench.api import RULES, AutoregressiveDecoder, EdgeModel, Options, Request
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, EngineSpec, Gate, Speculative
from specbench.speculation.ahead import AheadWindow
from specbench.testing import answer, tiny_llama, tokens_of

DTYPE = "float64"
PROMPT = tuple(range(20, 50))
DRAFTS = ["stranger", "first layer", "a near copy", "the target itself", "a few words"]
GREEDY = Options(Decoding(), Speculative())
AHEAD = [SpeculativePipelined(), SpeculativeAhead()]
quickly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def factories(request, tmp_path_factory):
    engine = EngineSpec(kind=request.param)
    folder = tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    tiny_llama(folder / "stranger", seed=8, num_hidden_layers=1)
    near = shaken(folder / "near", target, by=0.1)
    cloud = FarCloud(CloudSpec(model=str(target), device="cpu", dtype=DTYPE), engine=engine)
    return cloud, {
        "stranger": EdgeModel(EdgeSpec(model=str(folder / "stranger"), dtype=DTYPE), engine=engine),
        "a near copy": EdgeModel(EdgeSpec(model=str(near), dtype=DTYPE), engine=engine),
        "first layer": EdgeModel(EdgeSpec(model=str(target), layers=1, dtype=DTYPE), engine=engine),
        "the target itself": EdgeModel(EdgeSpec(model=str(target), dtype=DTYPE), engine=engine),
        "a few words": mapped_draft(folder / "mapped", cloud, size=30, dtype=DTYPE, engine=engine),
    }


def run(factories, method, draft, request, options):
    cloud, drafts = factories
    return answer(method.open(drafts[draft], cloud, options), request)


def counts(rounds):
    return [(part.tokens, part.drafted, part.accepted) for part in rounds]


@quickly
@given(
    method=st.sampled_from(AHEAD),
    draft=st.sampled_from(DRAFTS),
    draft_length=st.integers(1, 12),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    decoding=st.sampled_from(
        [
            Decoding(),
            Decoding(repetition_penalty=1.3),
            Decoding(temperature=0.8),
            Decoding(temperature=1.2, top_k=9),
        ]
    ),
    pending=st.sampled_from([Unhurried, Hurried]),
    seed=st.integers(0, 2**63 - 1),
    stop=st.sampled_from([None, 0.1, 0.5]),
)
def test_its_rounds_are_those_of_speculative_however_long_the_verdict_takes(
    factories, method, draft, draft_length, budget, stops, decoding, pending, seed, stop
):
    rule = "coupled" if decoding.temperature else "greedy"
    stop = stop if method.takes_confidence_stop else None
    speculative = Speculative(draft_length=draft_length, verification=rule, confidence_stop=stop)
    options = Options(decoding, speculative, {"speculative_ahead": {"outcomes": 1 + seed % 6}})
    request = Request(PROMPT, budget, frozenset(stops), seed)
    factories[0].pending = pending
    ahead = run(factories, method, draft, request, options)
    assert counts(ahead) == counts(run(factories, SpeculativeDecoding(), draft, request, options))
    control = answer(AutoregressiveDecoder(factories[0].target(options)), request)
    assert tokens_of(ahead) == tokens_of(control)


def test_a_draft_that_is_always_right_wastes_nothing(factories):
    factories[0].pending = Unhurried
    request = Request(PROMPT, 31, frozenset())
    rounds = run(factories, SpeculativePipelined(), "the target itself", request, GREEDY)
    assert [len(part.tokens) for part in rounds] == [1] + [5] * 6
    assert [part.wasted_draft_tokens for part in rounds[1:]] == [0] * 6


def test_a_guess_that_is_wrong_behind_a_draft_that_was_right_is_dropped(factories):
    factories[0].pending = Unhurried
    single = Options(Decoding(), Speculative(draft_length=1))
    request = Request(PROMPT, 200, frozenset())
    rounds = run(factories, SpeculativePipelined(), "a near copy", request, single)
    wrong = [part for part in rounds[1:] if part.accepted == part.drafted and part.wasted_draft_tokens]
    right = [part for part in rounds[1:] if part.accepted == part.drafted and not part.wasted_draft_tokens]
    assert wrong
    assert right
    assert counts(rounds) == counts(run(factories, SpeculativeDecoding(), "a near copy", request, single))


def test_its_next_proposal_is_there_when_the_verdict_comes(factories):
    factories[0].pending = Unhurried
    cloud, drafts = factories
    decoder = SpeculativePipelined().open(drafts["the target itself"], cloud, GREEDY)
    found = [decoder._drafter.uncommitted for _ in decoder.generate(Request(PROMPT, 30, frozenset()))]
    # Nothing behind the first token; then whole proposals; the last but one leaves room for three.
    assert found == [0, 4, 4, 4, 4, 3, 0]


def test_a_refused_draft_wastes_the_guess_and_the_proposal_behind_it(factories):
    factories[0].pending = Unhurried
    request = Request(PROMPT, 30, frozenset())
    rounds = run(factories, SpeculativePipelined(), "stranger", request, GREEDY)
    refused = [part for part in rounds[1:12] if part.accepted < part.drafted]  # the budget ends far behind
    assert {part.wasted_draft_tokens for part in refused} == {5}


def test_a_refusal_that_was_drafted_for_finds_its_next_proposal_ready(factories):
    factories[0].pending = Unhurried
    several = Options(Decoding(), Speculative(), {"speculative_ahead": {"outcomes": 8}})
    rounds = run(factories, SpeculativeAhead(), "a near copy", Request(PROMPT, 200, frozenset()), several)
    refused = [part for part in rounds[1:40] if part.accepted < part.drafted]
    caught = [part.ready_draft_tokens for part in refused if part.ready_draft_tokens]
    assert len(caught) > len(refused) / 3
    assert set(caught) == {4}
    assert all(part.wasted_draft_tokens >= 7 * 5 for part in refused)


def test_a_proposal_that_fills_a_tree_is_not_drafted_ahead_of(factories):
    factories[0].pending = Unhurried
    for length in (60, 64):
        options = Options(Decoding(), Speculative(draft_length=length))
        request = Request(PROMPT, 80, frozenset())
        rounds = run(factories, SpeculativeAhead(), "a near copy", request, options)
        assert counts(rounds) == counts(run(factories, SpeculativeDecoding(), "a near copy", request, options))
        assert any(part.wasted_draft_tokens for part in rounds[1:]) == (length == 60)


def test_nothing_is_drafted_ahead_of_a_verdict_that_is_there(factories):
    factories[0].pending = Hurried
    request = Request(PROMPT, 30, frozenset())
    rounds = run(factories, SpeculativePipelined(), "stranger", request, GREEDY)
    assert [part.wasted_draft_tokens for part in rounds[1:]] == [0] * (len(rounds) - 1)


def test_nothing_is_drafted_behind_a_stop_token_or_the_budget(factories):
    factories[0].pending = Unhurried
    free = tokens_of(
        run(factories, SpeculativePipelined(), "the target itself", Request(PROMPT, 40, frozenset()), GREEDY)
    )
    for budget in range(1, 14):
        rounds = run(
            factories, SpeculativePipelined(), "the target itself", Request(PROMPT, budget, frozenset()), GREEDY
        )
        assert sum(part.wasted_draft_tokens or 0 for part in rounds) == 0
    for position in range(1, 12):
        request = Request(PROMPT, 40, frozenset([free[position]]))
        rounds = run(factories, SpeculativePipelined(), "the target itself", request, GREEDY)
        assert sum(part.wasted_draft_tokens or 0 for part in rounds) == 0


@pytest.mark.parametrize("method", AHEAD, ids=lambda method: method.name)
@pytest.mark.parametrize("rule", sorted(set(RULES) - {"greedy", "coupled"}))
def test_rules_by_which_a_draft_may_be_anything_are_refused(method, rule):
    with pytest.raises(SpecbenchError, match=f"{rule} is not supported by {method.name}"):
        method.validate(Options(Decoding(), Speculative(verification=rule)))


def test_a_gate_is_refused():
    gate = Gate(measure="margin", threshold=0.5)
    with pytest.raises(SpecbenchError, match=r"speculative\.gate is not supported"):
        SpeculativePipelined().validate(Options(Decoding(), Speculative(gate=gate)))


def seen(stood, round_trip_ms=30.0, step_ms=10.0, rounds=50):
    window = AheadWindow()
    for _ in range(rounds):
        window.observe(round_trip_ms, step_ms, stood)
    return window


def test_drafting_ahead_pays_before_anything_is_known():
    assert AheadWindow().pays(1000.0)


def test_a_step_that_may_end_after_the_verdict_pays_only_where_drafts_stand():
    assert seen(stood=True).pays(29.0)
    assert not seen(stood=False).pays(21.0)
    assert seen(stood=False).pays(19.0)


def test_no_step_pays_when_the_verdict_is_due():
    assert not seen(stood=True).pays(30.0)
    assert not seen(stood=False).pays(30.0)


def test_a_round_trip_that_changes_is_noticed():
    window = seen(stood=True)
    for _ in range(20):
        window.observe(300.0, 10.0, True)
    assert window.pays(290.0)
