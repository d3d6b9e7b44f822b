"""The comparison methods write the control's text and count what was really drafted and accepted."""

import json
import threading

import pytest
import torch
from builders import mapped_draft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.hf_assisted import HfAssisted, HfAssistedDynamic
from specbench.plugins.hybrid import HybridDecoding
from specbench.plugins.prompt_lookup import NgramDrafter, PromptLookup
from specbench.plugins.suffix import SuffixDecoding
from transformers import GenerationConfig
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from specbench.api import RULES, AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Gate, Speculative
from specbench.speculation.assisted import in_target_ids
from specbench.speculation.rules import matching
from specbench.testing import answer, tiny_llama, tokens_of

# In float64 a wide pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"
LOOKUPS = {method.name: method for method in (PromptLookup(), SuffixDecoding(), HybridDecoding())}
METHODS = LOOKUPS | {method.name: method for method in (HfAssisted(), HfAssistedDynamic())}
DRAFTS = ["stranger", "first layer", "the target itself", "a few words", "padded rows"]
PROMPT = tuple(range(20, 50))
TAKES_NO_DISTRIBUTION = sorted(name for name, rule in RULES.items() if rule.proposes != "sample")
quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The target, and drafts from a stranger to itself; files beside them ask for sampling and penalties."""
    folder = tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    tiny_llama(folder / "stranger", seed=8, num_hidden_layers=1)
    tiny_llama(folder / "padded", seed=8, num_hidden_layers=1, vocab_size=101)
    hub = {"do_sample": True, "temperature": 1.9, "repetition_penalty": 3.0, "num_assistant_tokens": 2}
    for name in ("target", "stranger"):
        (folder / name / "generation_config.json").write_text(json.dumps(hub))
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype=DTYPE))
    drafts = {
        "stranger": EdgeModel(EdgeSpec(model=str(folder / "stranger"), dtype=DTYPE)),
        "first layer": EdgeModel(EdgeSpec(model=str(target), layers=1, dtype=DTYPE)),
        "the target itself": EdgeModel(EdgeSpec(model=str(target), dtype=DTYPE)),
        "a few words": mapped_draft(folder / "mapped", cloud, size=30, dtype=DTYPE),
        "padded rows": EdgeModel(EdgeSpec(model=str(folder / "padded"), dtype=DTYPE)),
    }
    return cloud, drafts


def options_of(rule="greedy", draft_length=4, **decoding):
    return Options(Decoding(**decoding), Speculative(draft_length=draft_length, verification=rule))


def run(pairs, method, draft, request, options):
    cloud, drafts = pairs
    METHODS[method].validate(options)
    return answer(METHODS[method].open(drafts[draft], cloud, options), request)


def alone(pairs, request, options):
    return tokens_of(answer(AutoregressiveDecoder(pairs[0].target(options)), request))


def counts(rounds):
    return [(part.tokens, part.drafted, part.accepted) for part in rounds]


def demand_promises(rounds, request, draft_length):
    for part in rounds[1:]:
        assert part.accepted <= part.drafted <= draft_length
        assert part.accepted <= len(part.tokens) <= part.accepted + 1
    tokens = tokens_of(rounds)
    assert request.stop_ids.isdisjoint(tokens[:-1])
    assert tokens[-1] in request.stop_ids or len(tokens) == request.max_new_tokens


@quickly
@given(
    method=st.sampled_from(sorted(METHODS)),
    draft=st.sampled_from(DRAFTS),
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=40),
    draft_length=st.integers(1, 16),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    penalty=st.sampled_from([1.0, 1.3]),
)
def test_greedy_text_equals_the_controls(pairs, method, draft, prompt, draft_length, budget, stops, penalty):
    options = options_of(draft_length=draft_length, repetition_penalty=penalty)
    request = Request(tuple(prompt), budget, frozenset(stops))
    rounds = run(pairs, method, draft, request, options)
    assert tokens_of(rounds) == alone(pairs, request, options)
    demand_promises(rounds, request, 20 if method == "hf_assisted_dynamic" else draft_length)


@quickly
@given(
    method=st.sampled_from(sorted(LOOKUPS)),
    rule=st.sampled_from(TAKES_NO_DISTRIBUTION),
    temperature=st.sampled_from([0.0, 0.7, 1.3]),
    prompt=st.lists(st.integers(4, 20), min_size=1, max_size=40),
    draft_length=st.integers(1, 8),
    budget=st.integers(1, 30),
    stops=st.sets(st.integers(0, 95), max_size=4),
    seed=st.integers(0, 2**63 - 1),
)
def test_lookups_keep_their_promises_under_every_rule_that_takes_them(
    pairs, method, rule, temperature, prompt, draft_length, budget, stops, seed
):
    options = options_of(rule, draft_length, temperature=0.0 if RULES[rule].needs_greedy else temperature)
    request = Request(tuple(prompt), budget, frozenset(stops), seed)
    rounds = run(pairs, method, "stranger", request, options)
    demand_promises(rounds, request, draft_length)
    if METHODS[method].repeats_control(options):
        assert tokens_of(rounds) == alone(pairs, request, options)


@pytest.mark.parametrize("position", range(1, 9))
@pytest.mark.parametrize("method", METHODS)
def test_a_stop_token_anywhere_in_a_block_ends_the_text_there(pairs, method, position):
    options = options_of(draft_length=8)
    free = alone(pairs, Request(PROMPT, 12, frozenset()), options)
    stop = frozenset([free[position]])
    expected = free[: min(free.index(token) for token in stop) + 1]
    rounds = run(pairs, method, "the target itself", Request(PROMPT, 12, stop), options)
    assert tokens_of(rounds) == expected
    assert sum(part.accepted or 0 for part in rounds) <= len(expected)


@quickly
@given(ids=st.lists(st.integers(0, 6), min_size=2, max_size=60), length=st.integers(1, 9))
def test_prompt_lookup_proposes_what_transformers_does(ids, length):
    theirs = PromptLookupCandidateGenerator(
        num_output_tokens=length, max_matching_ngram_size=3, max_length=1000
    )
    candidates, _ = theirs.get_candidates(torch.tensor([ids]))
    drafter = NgramDrafter(max_ngram=3)
    drafter.begin(Request(tuple(ids), length, frozenset()))
    assert list(drafter.propose(length).tokens) == candidates[0, len(ids) :].tolist()


def test_the_longest_ngram_decides_and_of_its_places_the_first():
    drafter = NgramDrafter(max_ngram=3)
    drafter.begin(Request((1, 2, 3, 7, 7, 2, 3, 8, 1, 2, 3, 9, 1, 2), 2, frozenset()))
    drafter.commit([3], accepted=0)
    assert drafter.propose(2).tokens == (7, 7)


def test_a_round_in_which_nothing_is_found_is_a_plain_step(pairs):
    rounds = run(pairs, "prompt_lookup", "stranger", Request(PROMPT, 30, frozenset()), options_of())
    assert [len(part.tokens) for part in rounds if part.drafted == 0].count(1) > 0
    assert all(len(part.tokens) == 1 for part in rounds if part.drafted == 0)
    # A tiny model soon turns in circles, which is where a lookup shines.
    assert sum(part.accepted or 0 for part in rounds) > 0


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_carried_from_one_prompt_to_the_next(pairs, method):
    cloud, drafts = pairs
    decoder = METHODS[method].open(drafts["first layer"], cloud, options_of())
    first, other = Request(PROMPT, 30, frozenset()), Request(PROMPT[::-1], 30, frozenset())
    fresh = counts(answer(decoder, first))
    answer(decoder, other)
    assert counts(answer(decoder, first)) == fresh


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("budget", [1, 2, 6, 23])
def test_assisted_rounds_count_what_the_draft_says_and_the_target_takes(pairs, draft, budget):
    free = alone(pairs, Request(PROMPT, budget, frozenset()), options_of())
    request = Request(PROMPT, budget, frozenset(free[17:18]))
    text = alone(pairs, request, options_of())
    drafter = pairs[1][draft].drafter(options_of())
    drafter.begin(Request(PROMPT[:-1], budget, frozenset()))
    drafter.commit(PROMPT[-1:], 0)
    expected = []
    done = 0
    while done < len(text):
        # transformers ends a draft behind a stop token.
        proposed = drafter.propose(min(4, budget - done - 1)).tokens
        drafted, _ = Request((), 4, request.stop_ids).cut((), proposed)
        verdict = matching(drafted, [*text[done:], None])
        block = text[done : done + verdict.accepted + 1]
        drafter.commit(block, verdict.accepted)
        expected.append((tuple(block), len(drafted), verdict.accepted))
        done += len(block)
    expected[0] = (expected[0][0], None, None)
    rounds = run(pairs, "hf_assisted", draft, request, options_of())
    assert [(tuple(tokens), *rest) for tokens, *rest in counts(rounds)] == expected


def test_a_view_in_target_ids_says_what_the_engine_says(pairs):
    edge = pairs[1]["a few words"]
    view = in_target_ids(edge.engine.loaded.model, edge.draft_vocabulary, 120)
    logits = view(input_ids=torch.tensor([PROMPT])).logits[0]
    assert torch.equal(logits[:, :96], edge.engine.session().extend(PROMPT))
    assert logits[:, 96:].eq(-torch.inf).all()
    assert view.config.vocab_size == 120
    assert edge.engine.loaded.model.config.vocab_size == 30


def test_assisted_generation_leaves_the_models_as_they_were(pairs):
    cloud, drafts = pairs
    rounds = (
        METHODS["hf_assisted"]
        .open(drafts["stranger"], cloud, options_of())
        .generate(Request(PROMPT, 30, frozenset()))
    )
    next(rounds)
    rounds.close()  # whoever stops reading stops the thread too
    assert not [thread for thread in threading.enumerate() if thread.name == "model.generate"]
    assert not cloud.engine.loaded.model._forward_pre_hooks
    for model in (cloud, drafts["stranger"]):
        assert model.engine.loaded.model.generation_config == GenerationConfig()


def test_what_generate_raises_reaches_the_caller(pairs):
    with pytest.raises(IndexError):
        run(pairs, "hf_assisted", "stranger", Request((4, 10_000), 5, frozenset()), options_of())


def test_assisted_generation_refuses_an_engine_that_is_not_transformers_own(pairs, monkeypatch):
    cloud, drafts = pairs
    monkeypatch.setattr(type(cloud.engine), "kind", "compiled")
    with pytest.raises(SpecbenchError, match="engine is compiled"):
        METHODS["hf_assisted"].open(drafts["stranger"], cloud, options_of())


@pytest.mark.parametrize(
    ("method", "options", "hint"),
    [
        ("prompt_lookup", options_of("rejection", temperature=1.0), "verification=one_hot"),
        ("prompt_lookup", options_of("block"), "verification=greedy"),
        ("prompt_lookup", options_of("greedy", temperature=0.5), "verification=one_hot"),
        ("suffix", options_of("rejection", temperature=1.0), "verification=one_hot"),
        ("hybrid", options_of("block", temperature=1.0), "verification=one_hot"),
        ("hf_assisted", options_of("greedy", temperature=0.5), "verification=rejection"),
        ("hf_assisted", options_of("coupled", temperature=0.5), "verification=rejection"),
        ("hf_assisted_dynamic", options_of("typical"), "verification=greedy"),
        *(
            (name, Options(Decoding(), Speculative(gate=Gate(measure="entropy", threshold=1.0))), "gate=null")
            for name in METHODS
        ),
    ],
)
def test_options_that_cannot_be_honoured_are_refused_with_a_way_out(method, options, hint):
    with pytest.raises(SpecbenchError) as caught:
        METHODS[method].validate(options)
    assert hint in caught.value.hint
