"""Drafts from the sequence itself, alone and beside the draft model."""

from dataclasses import replace

import pytest
from builders import shaken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.hybrid import HybridDecoding, HybridDrafter
from specbench.plugins.suffix import SuffixDecoding

from specbench.api import (
    AutoregressiveDecoder,
    CloudModel,
    Decoding,
    EdgeModel,
    Options,
    Request,
    SpecbenchError,
    Speculative,
    SuffixDrafter,
)
from specbench.forecast.replay import ANY, play
from specbench.forecast.trace_making import readings
from specbench.forecast.traced_drafter import Text
from specbench.forecast.varied import Varied
from specbench.profile import CloudSpec, EdgeSpec
from specbench.speculation.suffix import SuffixAutomaton
from specbench.testing import answer, tokens_of

TURNING = (7, 7, 9, 12, 7, 9)


def automaton_of(ids):
    automaton = SuffixAutomaton()
    for token in ids:
        automaton.append(token)
    return automaton


def longest_repeat(ids):
    """Length of the longest suffix that ends earlier too, and where it first does."""
    for length in range(len(ids) - 1, 0, -1):
        for end in range(length, len(ids)):
            if ids[end - length : end] == ids[-length:]:
                return length, end
    return 0, 0


@given(st.lists(st.integers(0, 3), max_size=40))
def test_the_match_is_the_longest_suffix_that_occurred_before_and_its_first_occurrence(ids):
    assert automaton_of(ids).match == longest_repeat(ids)


@pytest.mark.parametrize("ids", [[5] * 500, [1, 2] * 250, [*range(250)] * 2, [n * n % 17 for n in range(500)]])
def test_the_automaton_grows_by_two_states_and_three_transitions_a_token_at_most(ids):
    automaton = automaton_of(ids)
    assert len(automaton._end) <= 2 * len(ids)
    assert sum(map(len, automaton._next)) <= 3 * len(ids)


def proposed(ids, draft_length, min_match=1, max_draft_factor=1.0):
    drafter = SuffixDrafter(min_match, max_draft_factor)
    drafter.begin(Request(tuple(ids), 8, frozenset()))
    return drafter.propose(draft_length).tokens


@pytest.mark.parametrize(
    ("draft_length", "min_match", "factor", "expected"),
    [
        (8, 1, 1.0, (4, 5, 6)),  # three tokens match
        (8, 3, 1.5, (4, 5, 6, 1)),
        (2, 3, 1.5, (4, 5)),
        (8, 4, 8.0, ()),
        (0, 1, 8.0, ()),
    ],
)
def test_the_length_of_the_match_bounds_the_draft(draft_length, min_match, factor, expected):
    assert proposed((1, 2, 3, 4, 5, 6, 1, 2, 3), draft_length, min_match, factor) == expected


def test_a_draft_goes_on_behind_the_end_of_the_sequence_by_repeating_itself():
    assert proposed((8, 1, 2, 1, 2), 5, max_draft_factor=4.0) == (1, 2, 1, 2, 1)


def tree_of(ids, draft_length, nodes=63, min_match=1, max_draft_factor=64.0):
    drafter = SuffixDrafter(min_match, max_draft_factor, nodes)
    drafter.begin(Request(tuple(ids), 8, frozenset()))
    return drafter.propose(draft_length)


def paths_of(tree):
    return {tuple(tree.tokens[place] for place in tree.path(index)) for index in range(len(tree))}


def test_a_tree_holds_all_that_followed_the_match_and_what_followed_first_comes_first():
    tree = tree_of((1, 2, 3, 4, 1, 2, 7, 1, 2), 2, nodes=4)
    assert (tree.tokens, tree.parents) == ((3, 7, 4, 1), (-1, -1, 0, 1))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 5))
def test_a_tree_has_every_continuation_of_the_match_and_nothing_else(ids, depth):
    match, _ = longest_repeat(ids)
    tree = tree_of(ids, depth)
    ends = [end for end in range(match, len(ids)) if match and ids[end - match : end] == ids[-match:]]
    followed = {
        tuple(ids[end : end + count])
        for end in ends
        for count in range(1, depth + 1)
        if end + count <= len(ids)
    }
    # Behind the end of the sequence it repeats itself, as the chain does.
    inside = {path for path in paths_of(tree) if any(path == tuple(ids[end : end + len(path)]) for end in ends)}
    if len(tree) < 63:
        assert followed == inside
    assert {path[:1] for path in paths_of(tree)} == {path[:1] for path in followed}


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 8))
def test_the_first_path_of_a_tree_is_the_chain(ids, draft_length):
    tree, chain = tree_of(ids, draft_length), proposed(ids, draft_length, max_draft_factor=64.0)
    if len(tree) < 63:
        assert not chain or chain in paths_of(tree)
    assert [token for token, parent in zip(tree.tokens, tree.parents or (), strict=True) if parent < 0][
        :1
    ] == list(chain[:1])
    assert tree.depth <= draft_length


@pytest.mark.parametrize("method", [SuffixDecoding(), HybridDecoding()], ids=lambda method: method.name)
def test_a_tree_is_judged_by_the_rules_that_take_trees(method):
    options = Options(Decoding(), Speculative(verification="one_hot"), {method.name: {"nodes": 8}})
    with pytest.raises(SpecbenchError, match=f"one_hot is not supported by {method.name}, which drafts trees"):
        method.validate(options)
    method.validate(replace(options, methods={}))
    assert method.needs(options).trees
    assert not method.needs(replace(options, methods={})).trees


@pytest.mark.parametrize("method", [SuffixDecoding(), HybridDecoding()], ids=lambda method: method.name)
@pytest.mark.parametrize("rule", ["greedy", "coupled"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    nodes=st.integers(1, 63), draft_length=st.integers(1, 8), budget=st.integers(1, 60), seed=st.integers(0, 9),
    stops=st.sets(st.integers(0, 95), max_size=4),
)  # fmt: skip
def test_the_text_of_trees_is_the_controls(pair, method, rule, nodes, draft_length, budget, seed, stops):
    decoding = Decoding(temperature=0.8) if rule == "coupled" else Decoding()
    spec = Speculative(verification=rule, draft_length=draft_length)
    options = Options(decoding, spec, {method.name: {"nodes": nodes, "max_draft_factor": 8.0}})
    request = Request(TURNING, budget, frozenset(stops), seed)
    control = tokens_of(answer(AutoregressiveDecoder(pair[1].target(options)), request))
    assert tokens_of(answer(method.open(*pair, options), request)) == control


@pytest.fixture(scope="module")
def pair(models, tmp_path_factory):
    """In float64, where the tiny models' near-ties are none: a target, and a draft that agrees often."""
    target = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float64"))
    draft = shaken(tmp_path_factory.mktemp("pair") / "shaken", models / "target", by=0.1)
    return EdgeModel(EdgeSpec(model=str(draft), dtype="float64")), target


def figures(parts):
    return [(part.tokens, part.drafted, part.accepted, part.depth) for part in parts]


class Matching(HybridDrafter):
    """Keeps how many of its tokens came from a match, by round."""

    matched = ()

    def propose(self, draft_length):
        self.matched += (len(self._suffix.propose(draft_length)),)
        return super().propose(draft_length)


@pytest.mark.parametrize("draft_length", [1, 3, 6])
def test_the_draft_model_drafts_behind_matches_as_if_it_had_read_all_along(pair, draft_length):
    options = Options(Decoding(), Speculative(draft_length=draft_length))
    drafter, fresh = Matching(SuffixDrafter(2, 2.0), pair[0].drafter(options)), pair[0].drafter(options)
    target, ids = pair[1].verifier(options), list(TURNING)
    request = Request(TURNING, 60, frozenset())
    drafter.begin(request)
    commit = target.begin(request)
    drafter.commit(commit.tokens, 0)
    while commit.finish_reason is None:
        ids += commit.tokens
        proposal = drafter.propose(min(draft_length, target.remaining - 1))
        if not drafter.matched[-1]:
            fresh.begin(replace(request, prompt_ids=tuple(ids[:-1])))
            fresh.commit(ids[-1:], 0)
            assert proposal.tokens == fresh.propose(len(proposal)).tokens
        commit = target.verify(proposal)
        drafter.commit(commit.tokens, commit.accepted)
        drafter.check()
    assert 0 in drafter.matched[1:]
    assert any(drafter.matched)


@pytest.mark.parametrize("method", [SuffixDecoding(), HybridDecoding()], ids=lambda method: method.name)
@pytest.mark.parametrize("draft_length", [1, 3, 6])
@pytest.mark.parametrize("own", [{}, {"nodes": 12}], ids=["chain", "tree"])
def test_both_are_replayed_as_they_run(pair, method, draft_length, own):
    options = Options(Decoding(), Speculative(draft_length=draft_length), {method.name: own})
    request = Request(TURNING, 120, frozenset())
    real = answer(method.open(*pair, options), request)
    tokens = tuple(token for part in real for token in part.tokens)
    bits = readings(pair[0].engine, options, request, tokens)["agrees"]
    known = {"prompt_tokens": len(TURNING), "tokens": tokens, "prompt_ids": TURNING}
    text = replace(Text.of(bits, request.max_new_tokens), **known)
    replayed = [one.part for one in play(text, ANY, Varied(method, 1, own), draft_length)]
    assert figures(replayed) == figures(real)
    assert any(part.accepted for part in real)
