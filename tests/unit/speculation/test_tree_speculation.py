"""Trees of drafted tokens: their text is the control's, whatever their shape."""

import pytest
from builders import mapped_draft, shaken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_tree import SpeculativeTree

from specbench.api import (
    RULES,
    TREE_RULES,
    AutoregressiveDecoder,
    CloudModel,
    EdgeModel,
    Options,
    Proposal,
    Request,
    SpecbenchError,
    SpeculativeDecoder,
    SpeculativeLoop,
)
from specbench.engine.batch import together
from specbench.engine.session import Block
from specbench.profile import CloudSpec, Decoding, EdgeSpec, EngineSpec, Speculative
from specbench.speculation.colocated import ColocatedTarget
from specbench.speculation.request import Needs
from specbench.testing import answer, tiny_llama, tokens_of

# In float64 a tree's pass and single steps agree to about 1e-15, so no tie can hide a bug.
DTYPE = "float64"
PROMPT = tuple(range(20, 50))
GREEDY, WARM = Decoding(), Decoding(temperature=0.8, top_p=0.95)
SHAPES = st.one_of(
    st.fixed_dictionaries({"nodes": st.integers(1, 63)}),
    st.fixed_dictionaries(
        {"branching": st.sampled_from([(1, 1, 1), (3, 2, 1, 1), (4,), (2, 2, 2, 2), (1, 5, 2)])}
    ),
)
quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def pair(request, tmp_path_factory):
    """A target, and drafts from near to strange."""
    engine = EngineSpec(kind=request.param)
    folder = tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    near = shaken(folder / "near", target, by=0.1)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype=DTYPE), engine=engine)
    drafts = {
        "first layer": EdgeModel(EdgeSpec(model=str(target), layers=1, dtype=DTYPE), engine=engine),
        "near": EdgeModel(EdgeSpec(model=str(near), dtype=DTYPE), engine=engine),
        "a few words": mapped_draft(folder / "mapped", cloud, size=30, dtype=DTYPE, engine=engine),
    }
    assert {model.engine.kind for model in (cloud, *drafts.values())} == {engine.kind}
    return cloud, drafts


def options_of(shape, decoding=GREEDY, **speculative):
    return Options(decoding, Speculative(**speculative), {"speculative_tree": shape})


def tree_rounds(pair, draft, options, request):
    # `answer` lets both sides assert their cache lengths after every round.
    return answer(SpeculativeTree().open(pair[1][draft], pair[0], options), request)


def alone(pair, options, request):
    return tokens_of(answer(AutoregressiveDecoder(pair[0].target(options)), request))


def demand_rounds(rounds, request, most_nodes=63):
    for part in rounds[1:]:
        assert part.drafted <= most_nodes
        assert part.accepted <= (part.depth or 0)
        assert part.accepted <= len(part.tokens) <= part.accepted + 1
    tokens = tokens_of(rounds)
    assert request.stop_ids.isdisjoint(tokens[:-1])
    assert tokens[-1] in request.stop_ids or len(tokens) == request.max_new_tokens


@quickly
@given(
    draft=st.sampled_from(["first layer", "near", "a few words"]),
    shape=SHAPES,
    draft_length=st.integers(1, 6) | st.just("auto"),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    rule=st.sampled_from(["greedy", "coupled"]),
    settings=st.sampled_from(
        [
            {},
            {"repetition_penalty": 1.3},
            {"presence_penalty": 1.1, "frequency_penalty": 0.7},
            {"min_new_tokens": 8, "logit_bias": {30: 2.0}},
        ]
    ),
    seed=st.integers(0, 2**63 - 1),
)
def test_greedy_and_coupled_text_equals_the_controls(
    pair, draft, shape, draft_length, budget, stops, rule, settings, seed
):
    decoding = Decoding(temperature=0.9 if rule == "coupled" else 0.0, **settings)
    options = options_of(shape, decoding, verification=rule, draft_length=draft_length)
    request = Request(PROMPT, budget, frozenset(stops), seed)
    rounds = tree_rounds(pair, draft, options, request)
    assert tokens_of(rounds) == alone(pair, options, request)
    demand_rounds(rounds, request, shape.get("nodes", 63))


@quickly
@given(
    draft=st.sampled_from(["first layer", "near", "a few words"]),
    shape=SHAPES,
    decoding=st.sampled_from([GREEDY, WARM, Decoding(temperature=1.3, top_k=5, repetition_penalty=1.2)]),
    budget=st.integers(1, 30),
    stops=st.sets(st.integers(0, 95), max_size=4),
    seed=st.integers(0, 2**63 - 1),
)
def test_rejection_keeps_what_every_round_promises(pair, draft, shape, decoding, budget, stops, seed):
    options = options_of(shape, decoding, verification="rejection")
    request = Request(PROMPT, budget, frozenset(stops), seed)
    rounds = tree_rounds(pair, draft, options, request)
    demand_rounds(rounds, request)
    if decoding is GREEDY:
        assert tokens_of(rounds) == alone(pair, options, request)


@pytest.mark.parametrize("rule", sorted(TREE_RULES))
def test_a_tree_without_branches_is_the_chain(pair, rule):
    decoding = GREEDY if RULES[rule].needs_greedy else WARM
    options = options_of({"branching": (1, 1, 1, 1)}, decoding, verification=rule)
    request = Request(PROMPT, 30, frozenset(), 5)
    chain = answer(SpeculativeDecoding().open(pair[1]["near"], pair[0], options), request)
    rounds = tree_rounds(pair, "near", options, request)
    assert [(part.tokens, part.drafted, part.accepted) for part in rounds] == [
        (part.tokens, part.drafted, part.accepted) for part in chain
    ]
    assert [part.depth for part in rounds] == [None, *(part.drafted or None for part in chain[1:])]


@pytest.mark.parametrize("rule", sorted(TREE_RULES))
def test_branches_make_more_stand(pair, rule):
    decoding = GREEDY if RULES[rule].needs_greedy else WARM
    request = Request(PROMPT, 60, frozenset(), 5)

    def rounds(**shape):
        return len(tree_rounds(pair, "first layer", options_of(shape, decoding, verification=rule), request))

    assert rounds(nodes=63) < rounds(branching=(1, 1, 1, 1))


def test_a_target_that_drafts_for_itself_accepts_whole_paths(pair, tmp_path):
    cloud = pair[0]
    itself = EdgeModel(EdgeSpec(model=cloud.spec.model, dtype=DTYPE), engine=cloud.engine_spec)
    decoder = SpeculativeTree().open(
        itself, cloud, options_of({"branching": (2, 1, 1, 1)}, WARM, verification="coupled")
    )
    rounds = answer(decoder, Request(PROMPT, 31, frozenset(), 5))
    assert [part.accepted for part in rounds[1:]] == [part.depth for part in rounds[1:]] == [4] * 6


@pytest.mark.parametrize("position", range(1, 7))
def test_a_stop_token_anywhere_in_a_tree_ends_the_text_there(pair, position):
    options = options_of({"nodes": 20}, draft_length=6)
    free = alone(pair, options, Request(PROMPT, 12, frozenset()))
    request = Request(PROMPT, 12, frozenset([free[position]]))
    rounds = tree_rounds(pair, "near", options, request)
    assert tokens_of(rounds) == free[: free.index(free[position]) + 1]


def test_the_draft_goes_on_alone_where_the_cloud_is_lost(pair):
    edge, options = pair[1]["near"], options_of({})
    request = Request(PROMPT, 20, frozenset())
    drafter = edge.tree_drafter(options, 12)
    own = tokens_of(answer(AutoregressiveDecoder(edge.target(options)), request))
    drafter.begin(request)
    drafter.commit(own[:1], 0)
    drafter.propose(4)
    alone = drafter.decode_alone()
    assert [next(alone) for _ in range(10)] == own[1:11]


def test_draft_and_target_in_one_place_speak_in_steps(pair):
    cloud, options, request = pair[0], options_of({}), Request(PROMPT, 30, frozenset())
    drafter = pair[1]["near"].tree_drafter(options, 12)
    target = ColocatedTarget(cloud.engine, options, drafter, Needs(trees=True))
    assert tokens_of(answer(AutoregressiveDecoder(target), request)) == alone(pair, options, request)


def test_trees_of_several_texts_are_read_in_one_pass(pair):
    cloud, options = pair[0], options_of({})
    requests = [Request(PROMPT[:size], 25, frozenset()) for size in (9, 20)]
    running, texts = [], []
    for request in requests:
        drafter, target = pair[1]["near"].tree_drafter(options, 12), cloud.verifier(options, Needs(trees=True))
        drafter.begin(request)
        texts.append(list(target.begin(request).tokens))
        drafter.commit(texts[-1], 0)
        running.append(SpeculativeLoop(drafter, target, 4).rounds(request))
    shared = 0
    steps = {index: next(each) for index, each in enumerate(running)}
    while steps:
        passed = together(cloud.engine, list(steps.values()))
        shared += len(steps) > 1
        for index, each in zip(list(steps), passed, strict=True):
            commit = running[index].send(each)
            texts[index] += commit.tokens
            following = next(running[index], None)
            assert following is None or isinstance(following, Block)
            steps = {**steps, index: following} if following else {k: v for k, v in steps.items() if k != index}
    assert shared > 3
    assert texts == [alone(pair, options, request) for request in requests]


class Sprout:
    """Guesses that everything goes on in one of two ways; no model."""

    def begin(self, request):
        self.last = request.prompt_ids[-1]

    def propose(self, draft_length):
        tokens, parents = (self.last, 7, 8, 7), (-1, 0, 0, 2)
        return Proposal(tokens, parents=parents) if draft_length >= 3 else Proposal()

    def commit(self, tokens, accepted):
        self.last = tokens[-1]
        return 0

    def check(self):
        pass


def test_any_drafter_may_propose_a_tree(pair):
    options, request = options_of({}), Request(PROMPT, 30, frozenset())
    drafter, target = Sprout(), pair[0].verifier(options, Needs(trees=True))
    decoder = SpeculativeDecoder(drafter, target, SpeculativeLoop(drafter, target, 4))
    rounds = answer(decoder, request)
    assert tokens_of(rounds) == alone(pair, options, request)
    assert {(part.drafted, part.depth) for part in rounds[1:]} <= {(4, 3), (0, None)}


@pytest.mark.parametrize("rule", sorted(set(RULES) - TREE_RULES))
def test_a_rule_that_judges_no_trees_is_refused_by_name(rule):
    with pytest.raises(SpecbenchError, match=f"verification: {rule} is not supported by speculative_tree"):
        SpeculativeTree().validate(options_of({}, verification=rule))


@pytest.mark.parametrize(
    ("shape", "speculative", "reason"),
    [
        ({}, {"window": 4}, "window: 4 is not supported by speculative_tree"),
        ({"branching": [2, 1, 1]}, {"draft_length": 2}, "deeper than speculative.draft_length: 2"),
        ({"branching": [8, 8]}, {}, "such a tree has 72 tokens; at most 63"),
        ({"nodes": 64}, {}, "nodes: 64 is refused"),
        ({"branching": [0]}, {}, "branching.0: 0 is refused"),
    ],
)
def test_what_no_tree_can_be_is_refused(shape, speculative, reason):
    with pytest.raises(SpecbenchError, match=reason):
        SpeculativeTree().validate(options_of(shape, **speculative))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"parents": (-1,)}, "2 tokens has 1 parents"),
        ({"parents": (0, -1)}, "does not stand before it"),
        ({"parents": (-1, -2)}, "does not stand before it"),
        ({"parents": (-1, -1), "tokens": (5, 5)}, "two equal siblings"),
        ({"parents": (-1, 0), "continues": True}, "can follow a tree"),
    ],
)
def test_parents_that_make_no_tree_are_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        Proposal(**{"tokens": (5, 6), **fields})


def test_a_rule_that_judges_no_trees_says_so_where_one_comes_anyway(pair):
    options = options_of({}, WARM, verification="one_hot")
    target = pair[0].verifier(options, Needs(trees=True))
    target.begin(Request(PROMPT, 20, frozenset()))
    with pytest.raises(SpecbenchError, match="one_hot cannot judge a tree"):
        target.verify(Proposal((5, 6), parents=(-1, -1)))
