"""Drafts that read the target's hidden states: what they read, what they say, and whose text it is."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_colocated import SpeculativeColocated
from specbench.plugins.speculative_eagle import SpeculativeEagle, SpeculativeEagleTree

from specbench.api import (
    RULES,
    TREE_RULES,
    AutoregressiveDecoder,
    CloudModel,
    Decoding,
    EdgeModel,
    Needs,
    Options,
    Proposal,
    Request,
    SpecbenchError,
    Speculative,
)
from specbench.benchmark.preparation import prepare
from specbench.engine.batch import alone as alone_in_its_pass
from specbench.forecast.replay import ANY, play
from specbench.forecast.traced_drafter import Text
from specbench.profile import CloudSpec, EdgeSpec, EngineSpec, load_profile
from specbench.speculation.features import DTYPES, Features
from specbench.testing import answer, tiny_eagle, tiny_llama, tokens_of

# In float64 a wide pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"
LAYERS = (0, 1, 3)
PROMPT = tuple(range(20, 50))
METHODS = {method.name: method for method in (SpeculativeEagle(), SpeculativeEagleTree())}
GREEDY = Options(Decoding(), Speculative())
quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def pair(request, tmp_path_factory):
    engine = EngineSpec(kind=request.param)
    folder = tmp_path_factory.mktemp("pair")
    target = tiny_llama(folder / "target", seed=7, num_hidden_layers=3)
    draft = tiny_eagle(folder / "draft", seed=3, target=target, layers=LAYERS)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype=DTYPE), engine=engine)
    edge = EdgeModel(EdgeSpec(model=str(draft), dtype=DTYPE), engine=engine)
    assert cloud.engine.kind == edge.engine.kind == request.param
    return edge, cloud


def alone(cloud, options, request):
    return tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), request))


def states_of(cloud, tokens):
    """Hidden states of the target by transformers' own pass, shape (tokens, layers, size)."""
    layers = {}
    model = cloud.engine.loaded.model.model
    hooks = [model.layers[0].register_forward_pre_hook(lambda _, inputs: layers.update({0: inputs[0]}))]
    hooks += [
        layer.register_forward_hook(lambda *call, at=at: layers.update({at: call[2]}))
        for at, layer in enumerate(model.layers, start=1)
    ]
    with torch.inference_mode():
        model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    return torch.stack([layers[layer][0] for layer in LAYERS], 1).float()


class Watched:
    """A target that notes the hidden states of each commit."""

    def __init__(self, target):
        self._target, self.seen = target, []

    def __getattr__(self, name):
        return getattr(self._target, name)

    @property
    def hidden_states(self):
        self.seen.append(self._target.hidden_states)
        return self.seen[-1]


def watched_rounds(method, pair, options, request):
    decoder = method.open(*pair, options)
    decoder._drafter.target = target = Watched(decoder._target)
    return answer(decoder, request), target.seen


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rule", ["greedy", "coupled", "rejection"])
def test_every_commit_brings_the_hidden_states_behind_the_tokens_before_its_own(pair, name, rule):
    decoding = Decoding(temperature=0.0 if rule == "greedy" else 0.9)
    options = Options(decoding, Speculative(verification=rule))
    request = Request(PROMPT, 30, frozenset(), 5)
    rounds, seen = watched_rounds(METHODS[name], pair, options, request)
    assert seen.pop() is None  # the text has ended
    expected = states_of(pair[1], [*PROMPT, *tokens_of(rounds)])
    assert [len(states) for states in seen[1:]] == [len(part.tokens) for part in rounds[1:-1]]
    read = torch.cat(seen)
    # Compiled passes round norms to float32: up to 4e-5 here, where neighbours differ by more than 1.
    assert torch.allclose(read, expected[: len(read)], atol=1e-3)
    assert (expected[1:] - expected[:-1]).abs().amax((1, 2)).min() > 1


def proposal_of(shape, right, wrong):
    """The next three tokens of the text, with a wrong one behind them or beside each."""
    if shape == "chain":
        return Proposal((*right, wrong))
    return Proposal((wrong, right[0], wrong, right[1], wrong, right[2]), parents=(-1, -1, 1, 1, 3, 3))


@pytest.mark.parametrize("shape", ["chain", "tree"])
def test_hidden_states_are_those_of_the_path_that_was_accepted(pair, shape):
    cloud, request = pair[1], Request(PROMPT, 40, frozenset())
    text = [*PROMPT, *alone(cloud, GREEDY, request)]
    expected = states_of(cloud, text)
    target = cloud.verifier(GREEDY, Needs(trees=True, features=Features(LAYERS, 32)))
    at = len(PROMPT) + len(target.begin(request).tokens)
    while target.remaining > 4:
        wrong = next(token for token in range(4, 96) if token not in text[at : at + 4])
        commit = target.verify(proposal_of(shape, text[at : at + 3], wrong))
        assert commit.accepted == 3
        assert torch.allclose(target.hidden_states, expected[at - 1 : at + 3], atol=1e-3)
        at += 4


def test_a_prompt_that_is_read_in_parts_has_all_its_hidden_states(pair, monkeypatch):
    request = Request(tuple(range(4, 96)) * 2, 12, frozenset())
    whole, seen = watched_rounds(SpeculativeEagle(), pair, GREEDY, request)
    for model in pair:
        monkeypatch.setattr(model.engine, "prefill_chunk", 50)
    parts, again = watched_rounds(SpeculativeEagle(), pair, GREEDY, request)
    assert [(part.tokens, part.accepted) for part in parts] == [(part.tokens, part.accepted) for part in whole]
    assert again[0].shape == (184, 3, 32)
    assert torch.allclose(again[0], seen[0], atol=1e-3)


def test_proposals_that_share_a_pass_have_hidden_states_of_their_own(pair):
    cloud, request = pair[1], Request(PROMPT, 40, frozenset())
    text = [*PROMPT, *alone(cloud, GREEDY, request)]
    expected = states_of(cloud, text)
    target = cloud.verifier(GREEDY, Needs(features=Features(LAYERS, 32)))
    at = len(PROMPT) + len(target.begin(request).tokens)
    proposals = Proposal(tuple(text[at : at + 3]), continues=True), Proposal(tuple(text[at + 3 : at + 5]))
    for commit in alone_in_its_pass(target.verifying(*proposals)):
        end = at + len(commit.tokens)
        assert torch.allclose(target.hidden_states, expected[at - 1 : end - 1], atol=1e-3)
        at = end
    assert at == len(PROMPT) + 1 + 6


def test_a_draft_begins_with_the_targets_hidden_states_and_goes_on_with_its_own(pair):
    edge, cloud = pair
    model = edge.engine.loaded.model
    request = Request(PROMPT, 24, frozenset())
    decoder = SpeculativeEagle().open(edge, cloud, GREEDY)
    text = list(PROMPT)
    target = decoder._target
    own = {}
    hook = model.model.layers[0].register_forward_hook(lambda *call: own.update(state=call[2][0, -1:]))
    decoder._drafter.begin(request)
    commit = target.begin(request)
    decoder._drafter.commit(commit.tokens, 0)
    text += commit.tokens
    for _ in range(4):
        proposal = decoder._drafter.propose(3)
        states = model.fused(states_of(cloud, text[:-1]).double())
        ids = torch.tensor([text[1:]])
        for token in proposal.tokens:
            with torch.inference_mode():
                logits = model(ids, hidden_states=states[None]).logits[0, -1]
            assert int(logits.argmax()) == token
            states = torch.cat([states, own["state"]])
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
        commit = target.verify(proposal)
        decoder._drafter.commit(commit.tokens, commit.accepted or 0)
        decoder._drafter.check()
        text += commit.tokens
    hook.remove()


@quickly
@given(
    name=st.sampled_from([*METHODS]),
    rule=st.sampled_from(["greedy", "coupled"]),
    dtype=st.sampled_from(DTYPES),
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=80),
    draft_length=st.integers(1, 6) | st.just("auto"),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=4),
    seed=st.integers(0, 2**63 - 1),
)
def test_its_text_is_the_controls(pair, name, rule, dtype, prompt, draft_length, budget, stops, seed):
    options = Options(
        Decoding(temperature=0.8 if rule == "coupled" else 0.0),
        Speculative(draft_length=draft_length, verification=rule),
        {name: {"features": dtype}},
    )
    request = Request(tuple(prompt), budget, frozenset(stops), seed)
    rounds = answer(METHODS[name].open(*pair, options), request)
    assert tokens_of(rounds) == alone(pair[1], options, request)
    assert all(part.accepted <= part.drafted for part in rounds[1:])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_judges_its_drafts_or_is_refused(pair, name, rule):
    method = METHODS[name]
    options = Options(
        Decoding(temperature=0 if RULES[rule].needs_greedy else 0.8), Speculative(verification=rule)
    )
    if name == "speculative_eagle_tree" and rule not in TREE_RULES:
        with pytest.raises(SpecbenchError, match="which drafts trees"):
            method.validate(options)
        return
    method.validate(options)
    rounds = answer(method.open(*pair, options), Request(PROMPT, 40, frozenset(), 3))
    assert len(tokens_of(rounds)) == 40
    assert any(part.drafted for part in rounds)


def test_beside_the_target_its_rounds_are_those_of_the_edge(pair):
    request = Request(PROMPT, 30, frozenset())
    rounds = answer(SpeculativeColocated().open(*pair, GREEDY), request)
    expected = answer(SpeculativeEagle().open(*pair, GREEDY), request)
    assert [(part.tokens, part.accepted) for part in rounds] == [
        (part.tokens, part.accepted) for part in expected
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_states_come_back_from_their_bytes_as_they_are_rounded(dtype):
    features = Features((1, 2), 24, dtype)
    torch.manual_seed(0)
    states = torch.randn(5, 2, 24) * torch.tensor([1.0, 300.0])[:, None]
    data = features.packed(states)
    assert len(data) == 5 * features.token_bytes
    found = features.unpacked(data)
    assert torch.equal(found, features.rounded(states))
    error = ((found - states).abs().amax(-1) / states.abs().amax(-1)).max()
    assert error <= {"float32": 0.0, "bfloat16": 2**-8, "int8": 0.5 / 127 + 1e-6}[dtype]
    assert torch.equal(features.unpacked(features.packed(torch.zeros(1, 2, 24))), torch.zeros(1, 2, 24))
    assert features.unpacked(b"").shape == (0, 2, 24)
    with pytest.raises(ValueError, match="no hidden states"):
        features.unpacked(data[:-1])


def test_a_draft_that_reads_hidden_states_is_refused_where_nobody_hands_it_any(pair):
    edge, cloud = pair
    for open_it in (
        lambda: SpeculativeDecoding().open(edge, cloud, GREEDY),
        lambda: edge.tree_drafter(GREEDY, 8),
        lambda: edge.target(GREEDY),
        lambda: edge.demand_target_ids(),
    ):
        with pytest.raises(SpecbenchError, match="reads hidden states of its target") as caught:
            open_it()
        assert caught.value.hint == "run speculative_eagle"


def test_a_draft_that_reads_none_is_refused(pair, models):
    edge = EdgeModel(EdgeSpec(model=str(models / "draft")))
    with pytest.raises(SpecbenchError, match="reads no hidden states") as caught:
        SpeculativeEagle().open(edge, pair[1], GREEDY)
    assert "distill --kind eagle" in caught.value.hint


def test_a_target_with_other_layers_is_refused(pair, models, tmp_path):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    with pytest.raises(SpecbenchError, match="gives no hidden states of its layers 0, 1, 3: it has 2 layers"):
        SpeculativeEagle().open(pair[0], cloud, GREEDY)
    folder = tiny_llama(tmp_path / "wide", 4, hidden_size=64, num_hidden_layers=3)
    wide = CloudModel(CloudSpec(model=str(folder), device="cpu"))
    with pytest.raises(SpecbenchError, match="they have 64 numbers, and the draft reads 32"):
        SpeculativeEagle().open(pair[0], wide, GREEDY)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_may_go_on_without_the_target_is_refused(name):
    lonely = load_profile("default", ["cloud.placement=process", "cloud.on_cloud_loss=edge_only"])
    with pytest.raises(SpecbenchError, match=f"edge_only is not supported by {name}") as caught:
        prepare(lonely, [METHODS[name]])
    assert "cloud.on_cloud_loss=fail" in caught.value.hint


@pytest.mark.parametrize("window", [4, "auto"])
def test_a_window_is_refused(window):
    with pytest.raises(SpecbenchError, match="waits for every verdict"):
        SpeculativeEagle().validate(Options(Decoding(), Speculative(window=window)))


@pytest.mark.parametrize("name", METHODS)
def test_a_replay_says_what_its_trace_lacks(name):
    with pytest.raises(SpecbenchError, match="hidden states, which a trace does not hold"):
        list(play(Text.of("1" * 20, 20), ANY, METHODS[name], 4))
