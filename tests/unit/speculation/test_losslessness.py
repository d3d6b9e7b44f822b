"""Greedy and coupled text is the control's, token for token, and no rule breaks what a round promises."""

import pytest
from builders import mapped_draft, shaken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_pipelined import SpeculativePipelined

from specbench.api import RULES, AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.cloud.split import SplitCloudModel
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, EngineSpec, Gate, Speculative
from specbench.speculation.draft_length import LONGEST
from specbench.speculation.stop_strings import StopStrings
from specbench.testing import answer, tiny_llama, tokens_of

# In float64 a wide pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"
DRAFTS = st.sampled_from(["stranger", "first layer", "a near copy", "the target itself", "a few words"])
SPECULATIVE = SpeculativeDecoding()
METHODS = st.sampled_from([SPECULATIVE, SpeculativePipelined()])
LENGTHS = st.integers(1, 16) | st.just("auto")
STOPS = st.sampled_from([None, 0.1, 0.5])
GREEDY = Options(Decoding(), Speculative())
LONG_DRAFTS = Options(Decoding(), Speculative(draft_length=8))
PROMPT = tuple(range(20, 50))
SAMPLING = (
    Decoding(temperature=1.0), Decoding(temperature=0.6, top_p=0.8), Decoding(temperature=1.4, top_k=9),
    Decoding(temperature=0.9, repetition_penalty=1.3), Decoding(), Decoding(repetition_penalty=1.3),
    Decoding(temperature=1.1, min_p=0.1, presence_penalty=1.2),
    Decoding(temperature=0.8, frequency_penalty=0.9, logit_bias={30: 3.0}, min_new_tokens=5),
)  # fmt: skip
BIASED = (
    Decoding(), Decoding(repetition_penalty=1.3), Decoding(presence_penalty=1.5),
    Decoding(frequency_penalty=0.7), Decoding(logit_bias={20: 2.0, 31: -100.0}), Decoding(min_new_tokens=7),
    Decoding(presence_penalty=0.4, frequency_penalty=-0.5, repetition_penalty=1.1, min_new_tokens=3),
)  # fmt: skip
quickly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(
    scope="module",
    params=[
        "eager",
        pytest.param("compiled", marks=pytest.mark.slow),
        pytest.param("two ranks", marks=pytest.mark.slow),
    ],
)
def factories(request, tmp_path_factory):
    is_split = request.param == "two ranks"
    engine = EngineSpec(kind="eager" if is_split else request.param)
    folder = tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    tiny_llama(folder / "stranger", seed=8, num_hidden_layers=1)
    near = shaken(folder / "near", target, by=0.1)
    spec = CloudSpec(model=str(target), device="cpu", dtype=DTYPE, parallel={"tensor": 2} if is_split else None)
    cloud = (SplitCloudModel if is_split else CloudModel)(spec, engine=engine)
    drafts = {
        "stranger": EdgeModel(EdgeSpec(model=str(folder / "stranger"), dtype=DTYPE), engine=engine),
        "a near copy": EdgeModel(EdgeSpec(model=str(near), dtype=DTYPE), engine=engine),
        "first layer": EdgeModel(EdgeSpec(model=str(target), layers=1, dtype=DTYPE), engine=engine),
        "the target itself": EdgeModel(EdgeSpec(model=str(target), dtype=DTYPE), engine=engine),
        "a few words": mapped_draft(folder / "mapped", cloud, size=30, dtype=DTYPE, engine=engine),
    }
    assert {factory.engine.kind for factory in (cloud, *drafts.values())} == {engine.kind}
    yield cloud, drafts
    cloud.close()


def speculate(factories, draft, request, options, method=SPECULATIVE):
    cloud, drafts = factories
    # `answer` lets both sides assert their cache lengths after every round.
    return answer(method.open(drafts[draft], cloud, options), request)


def alone(factories, request, options):
    return tokens_of(answer(AutoregressiveDecoder(factories[0].target(options)), request))


def demand_control_text(factories, draft, request, options, method=SPECULATIVE):
    rounds = speculate(factories, draft, request, options, method)
    assert tokens_of(rounds) == alone(factories, request, options)
    demand_rounds(rounds, request, options.speculative.draft_length)


def demand_rounds(rounds, request, draft_length):
    draft_length = LONGEST if draft_length == "auto" else draft_length
    for part in rounds[1:]:
        if part.unverified:
            assert part.drafted is part.accepted is None
            assert part.unverified == len(part.tokens) <= draft_length
        else:
            assert part.accepted <= part.drafted <= draft_length
            assert part.accepted <= len(part.tokens) <= part.accepted + 1
    tokens = tokens_of(rounds)
    assert request.stop_ids.isdisjoint(tokens[:-1])
    assert tokens[-1] in request.stop_ids or len(tokens) == request.max_new_tokens


@quickly
@given(
    draft=DRAFTS,
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=40),
    method=METHODS,
    draft_length=LENGTHS,
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    decoding=st.sampled_from(BIASED),
    stop=STOPS,
)
def test_greedy_text_equals_the_controls(
    factories, draft, prompt, method, draft_length, budget, stops, decoding, stop
):
    speculative = Speculative(draft_length=draft_length, confidence_stop=stop)
    options = Options(decoding, speculative)
    demand_control_text(factories, draft, Request(tuple(prompt), budget, frozenset(stops)), options, method)


@quickly
@given(
    draft=DRAFTS,
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=40),
    method=METHODS,
    draft_length=LENGTHS,
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    decoding=st.sampled_from(SAMPLING),
    seed=st.integers(0, 2**63 - 1),
    stop=STOPS,
)
def test_coupled_text_equals_the_controls(
    factories, draft, prompt, method, draft_length, budget, stops, decoding, seed, stop
):
    speculative = Speculative(draft_length=draft_length, verification="coupled", confidence_stop=stop)
    options = Options(decoding, speculative)
    request = Request(tuple(prompt), budget, frozenset(stops), seed)
    demand_control_text(factories, draft, request, options, method)


@quickly
@given(
    rule=st.sampled_from(sorted(RULES)),
    draft=DRAFTS,
    gate=st.sampled_from([None, Gate(measure="margin", threshold=0.2), Gate(measure="entropy", threshold=9.0)]),
    draft_length=st.integers(1, 8) | st.just("auto"),
    budget=st.integers(1, 30),
    stops=st.sets(st.integers(0, 95), max_size=4),
    decoding=st.sampled_from(SAMPLING),
    seed=st.integers(0, 2**63 - 1),
    stop=STOPS,
)
def test_no_rule_breaks_what_every_round_promises(
    factories, rule, draft, gate, draft_length, budget, stops, decoding, seed, stop
):
    if RULES[rule].needs_greedy:
        decoding = Decoding()
    speculative = Speculative(draft_length=draft_length, verification=rule, gate=gate, confidence_stop=stop)
    request = Request(PROMPT, budget, frozenset(stops), seed)
    demand_rounds(speculate(factories, draft, request, Options(decoding, speculative)), request, draft_length)


@pytest.mark.parametrize(
    "options",
    [GREEDY, Options(SAMPLING[1], Speculative(verification="coupled")),
     Options(SAMPLING[3], Speculative(verification="rejection"))],
    ids=["greedy", "coupled", "drawn"],
)  # fmt: skip
def test_the_controls_text_is_what_a_pass_without_a_cache_says(factories, options):
    cloud, request = factories[0], Request(PROMPT, 30, frozenset(), 5)
    text = alone(factories, request, options)
    seen = cloud.recomputed(options, request, text)
    assert (seen.position, seen.positions > 0) == (None, True)
    drawn = options.speculative.verification == "rejection"
    other = [*text[:9], text[9] ^ 1, *text[10:]]
    assert cloud.recomputed(options, request, other).position == (None if drawn else 9)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"one_hot", "typical", "rank"}))
def test_a_target_that_drafts_for_itself_accepts_everything(factories, rule):
    decoding = Decoding() if RULES[rule].needs_greedy else SAMPLING[1]
    request = Request(PROMPT, 31, frozenset(), 5)
    options = Options(decoding, Speculative(verification=rule))
    rounds = speculate(factories, "the target itself", request, options)
    assert [part.accepted for part in rounds[1:]] == [4] * 6
    assert [len(part.tokens) for part in rounds] == [1] + [5] * 6


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"rank", "typical"}))
def test_at_temperature_zero_every_lossless_rule_writes_the_controls_text(factories, rule):
    request = Request(PROMPT, 30, frozenset(), 5)
    demand_control_text(factories, "first layer", request, Options(Decoding(), Speculative(verification=rule)))


@pytest.mark.parametrize("method", [SPECULATIVE, SpeculativePipelined()], ids=lambda method: method.name)
@pytest.mark.parametrize("position", range(1, 9))
def test_a_stop_token_anywhere_in_a_block_ends_the_text_there(factories, position, method):
    free = alone(factories, Request(PROMPT, 12, frozenset()), GREEDY)
    stop = frozenset([free[position]])
    expected = free[: min(free.index(token) for token in stop) + 1]
    rounds = speculate(factories, "the target itself", Request(PROMPT, 12, stop), LONG_DRAFTS, method)
    assert tokens_of(rounds) == expected
    assert sum(part.accepted or 0 for part in rounds) <= len(expected)


@pytest.mark.parametrize("method", [SPECULATIVE, SpeculativePipelined()], ids=lambda method: method.name)
@pytest.mark.parametrize("position", range(1, 9))
def test_a_stop_string_across_tokens_ends_the_text_anywhere_in_a_block(factories, position, method):
    """Each token is read as two letters; the string is the second one of a token and the first of the next."""
    free = alone(factories, Request(PROMPT, 12, frozenset()), GREEDY)

    def decode(token_ids):
        return "".join(f"{chr(97 + token // 10)}{token % 10}" for token in token_ids)

    text = decode(free)
    string = text[2 * position - 1 : 2 * position + 1]
    end = next(count for count in range(1, 13) if string in decode(free[:count]))
    stops = StopStrings((string, "never"), decode)
    request = Request(PROMPT, 12, frozenset(), stop_strings=stops)
    for options, found in ((LONG_DRAFTS, "the target itself"), (GREEDY, "stranger")):
        rounds = speculate(factories, found, request, options, method)
        assert tokens_of(rounds) == free[:end]
        assert rounds[-1].finish_reason == "stop"
        assert sum(part.accepted or 0 for part in rounds) <= end
    assert stops.text(free[:end]) == text[: text.index(string)]
    assert alone(factories, request, GREEDY) == free[:end]


def test_neither_stop_tokens_nor_stop_strings_end_a_text_before_its_least_length(factories):
    options = Options(Decoding(min_new_tokens=6), Speculative(draft_length=4))
    free = alone(factories, Request(PROMPT, 12, frozenset()), GREEDY)
    request = Request(PROMPT, 12, frozenset(free[:5]))
    text = tokens_of(speculate(factories, "first layer", request, options))
    assert text == alone(factories, request, options)
    assert len(text) > 6
    assert not request.stop_ids & {*text[:6]}


def test_a_gate_that_is_never_sure_changes_nothing(factories):
    request = Request(PROMPT, 30, frozenset())
    gated = Options(Decoding(), Speculative(gate=Gate(measure="log_probability", threshold=0.1)))
    assert speculate_text(factories, request, gated) == speculate_text(factories, request, GREEDY)


def test_a_gate_that_is_always_sure_leaves_the_target_the_first_and_the_last_token(factories):
    gated = Options(Decoding(), Speculative(gate=Gate(measure="entropy", threshold=100.0)))
    rounds = speculate(factories, "stranger", Request(PROMPT, 30, frozenset()), gated)
    assert sum(part.unverified or 0 for part in rounds) == 28
    assert sum(part.drafted or 0 for part in rounds) == 0


def test_a_gate_never_lets_an_unverified_token_end_the_text(factories):
    gated = Options(Decoding(), Speculative(gate=Gate(measure="entropy", threshold=100.0)))
    free = tokens_of(speculate(factories, "stranger", Request(PROMPT, 30, frozenset()), gated))
    rounds = speculate(factories, "stranger", Request(PROMPT, 30, frozenset([free[6]])), gated)
    assert not any(free[6] in part.tokens for part in rounds if part.unverified)


def test_a_gate_or_a_lossy_rule_is_labelled_lossy():
    method = SpeculativeDecoding()
    gate = Gate(measure="margin", threshold=0.9)
    assert not method.lossless(Options(Decoding(), Speculative(gate=gate)))
    for rule in RULES:
        assert method.lossless(Options(Decoding(), Speculative(verification=rule))) == (
            rule not in ("rank", "typical")
        )


def test_sampling_is_refused_by_greedy_verification():
    with pytest.raises(SpecbenchError, match=r"needs decoding\.temperature: 0"):
        SpeculativeDecoding().validate(Options(Decoding(temperature=0.7), Speculative()))


def speculate_text(factories, request, options):
    return tokens_of(speculate(factories, "first layer", request, options))
