"""Speculation changes nothing: greedy output is the control's, token for token."""

import pytest
from builders import mapped_draft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.config import CloudSpec, Decoding, EdgeSpec, EngineSpec, Speculative
from specbench.testing import answer, tiny_llama, tokens_of

# In float64 a wide pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"


@pytest.fixture(scope="module", params=["eager", "compiled"])
def factories(request, tmp_path_factory):
    engine = EngineSpec(kind=request.param)
    folder = tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    tiny_llama(folder / "stranger", seed=8, num_hidden_layers=1)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype=DTYPE), engine=engine)
    drafts = {
        "stranger": EdgeModel(EdgeSpec(model=str(folder / "stranger"), dtype=DTYPE), engine=engine),
        "first layer": EdgeModel(EdgeSpec(model=str(target), layers=1, dtype=DTYPE), engine=engine),
        "the target itself": EdgeModel(EdgeSpec(model=str(target), dtype=DTYPE), engine=engine),
        "a few words": mapped_draft(folder / "mapped", cloud, size=30, dtype=DTYPE, engine=engine),
    }
    assert {factory.engine.kind for factory in (cloud, *drafts.values())} == {request.param}
    return cloud, drafts


def speculate(factories, draft, request, draft_length, decoding):
    cloud, drafts = factories
    options = Options(decoding, Speculative(draft_length=draft_length))
    return answer(SpeculativeDecoding().open(drafts[draft], cloud, options), request)


def alone(factories, request, decoding):
    return tokens_of(answer(AutoregressiveDecoder(factories[0].target(decoding)), request))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    draft=st.sampled_from(["stranger", "first layer", "the target itself", "a few words"]),
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=40),
    draft_length=st.integers(1, 16),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    penalty=st.sampled_from([1.0, 1.3]),
)
def test_speculative_text_equals_the_controls(factories, draft, prompt, draft_length, budget, stops, penalty):
    decoding = Decoding(repetition_penalty=penalty)
    request = Request(tuple(prompt), budget, frozenset(stops))
    rounds = speculate(factories, draft, request, draft_length, decoding)
    assert tokens_of(rounds) == alone(factories, request, decoding)
    for part in rounds[1:]:
        assert part.drafted <= draft_length
        assert part.accepted <= part.drafted
        assert part.accepted <= len(part.tokens) <= part.accepted + 1
    assert not any(token in stops for token in tokens_of(rounds)[:-1])


def test_a_target_that_drafts_for_itself_accepts_everything(factories):
    request = Request(tuple(range(20, 50)), 31, frozenset())
    rounds = speculate(factories, "the target itself", request, 4, Decoding())
    assert [part.accepted for part in rounds[1:]] == [4] * 6
    assert [len(part.tokens) for part in rounds] == [1] + [5] * 6


@pytest.mark.parametrize("position", range(1, 9))
def test_a_stop_token_anywhere_in_a_block_ends_the_text_there(factories, position):
    free = alone(factories, Request(tuple(range(20, 50)), 12, frozenset()), Decoding())
    stop = frozenset([free[position]])
    expected = free[: min(free.index(token) for token in stop) + 1]
    rounds = speculate(factories, "the target itself", Request(tuple(range(20, 50)), 12, stop), 8, Decoding())
    assert tokens_of(rounds) == expected
    assert sum(part.accepted or 0 for part in rounds) <= len(expected)


def test_sampling_is_refused_by_greedy_verification():
    from specbench.errors import SpecbenchError

    with pytest.raises(SpecbenchError, match=r"needs decoding\.temperature: 0"):
        SpeculativeDecoding().validate(Options(Decoding(temperature=0.7), Speculative()))
