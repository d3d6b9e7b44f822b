"""Trees of what the target found likely before."""

from types import SimpleNamespace

import pytest
from builders import tiny_mistral
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.token_recycling import TOP_K, RecyclingDrafter, TokenRecycling

from specbench.api import AutoregressiveDecoder, CloudModel, Decoding, EdgeModel, Options, Request, Speculative
from specbench.errors import SpecbenchError
from specbench.forecast.replay import ANY, play
from specbench.forecast.traced_drafter import Text
from specbench.profile import CloudSpec
from specbench.testing import answer, tokens_of

THE, CAT, DOG, SUN, SAT, RAN, ON, DOWN = range(8)
TABLE = {THE: (CAT, DOG, SUN), CAT: (SAT, RAN), DOG: (RAN, SAT), SAT: (ON, DOWN)}
PLAIN = Options(Decoding(), Speculative())
EDGE = EdgeModel(model="nowhere")


def drafter_of(table, last, nodes=16, branching=4):
    """A drafter that has read every word of a table, and `last` at the end."""
    drafter = RecyclingDrafter(nodes, branching)
    drafter.target = SimpleNamespace(top_ids=())
    drafter.begin(Request((last,), 8, frozenset()))
    for word, successors in table.items():
        drafter._judged, drafter.target.top_ids = [word], (successors,)
        drafter.commit([last], 0)
    return drafter


def test_a_tree_is_deep_along_first_choices_and_wide_near_its_root():
    tree = drafter_of(TABLE, THE, nodes=7).propose(4)
    assert tree.tokens == (CAT, DOG, SAT, SUN, RAN, RAN, ON)
    assert tree.parents == (-1, -1, 0, -1, 0, 1, 2)


@pytest.mark.parametrize(
    ("nodes", "branching", "draft_length", "expected"),
    [
        (16, 4, 1, ((CAT, DOG, SUN), (-1, -1, -1))),
        (16, 1, 4, ((CAT, SAT, ON), (-1, 0, 1))),
        (2, 4, 4, ((CAT, DOG), (-1, -1))),
        (16, 4, 0, ((), None)),
    ],
)
def test_nodes_branching_and_draft_length_bound_a_tree(nodes, branching, draft_length, expected):
    tree = drafter_of(TABLE, THE, nodes, branching).propose(draft_length)
    assert (tree.tokens, tree.parents) == expected


def test_behind_a_token_that_the_target_has_not_read_nothing_is_proposed():
    assert len(drafter_of(TABLE, ON).propose(4)) == 0


def test_every_token_that_was_judged_renews_its_row():
    drafter = drafter_of(TABLE, THE, nodes=2, branching=1)
    assert drafter.propose(4).tokens == (CAT, SAT)
    drafter.target.top_ids = ((DOG,), (RAN,), (DOWN,))  # behind "the", "the cat" and "the cat sat"
    drafter.commit([DOG, RAN, THE], 0)
    assert drafter._successors == TABLE | {THE: (DOG,), CAT: (RAN,), SAT: (DOWN,)}
    assert drafter.propose(4).tokens == (DOG, RAN)


@pytest.fixture(scope="module")
def cloud(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float64"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rule=st.sampled_from(["greedy", "coupled"]),
    prompt=st.lists(st.integers(4, 95), min_size=1, max_size=30),
    nodes=st.sampled_from([1, 16, 63]),
    branching=st.integers(1, TOP_K),
    draft_length=st.integers(1, 8),
    budget=st.integers(1, 50),
    stops=st.sets(st.integers(0, 95), max_size=4),
    seed=st.integers(0, 2**63 - 1),
)
def test_its_text_is_the_controls(cloud, rule, prompt, nodes, branching, draft_length, budget, stops, seed):
    options = Options(
        Decoding(temperature=0.8 if rule == "coupled" else 0.0),
        Speculative(draft_length=draft_length, verification=rule),
        {"token_recycling": {"nodes": nodes, "branching": branching}},
    )
    request = Request(tuple(prompt), budget, frozenset(stops), seed)
    rounds = answer(TokenRecycling().open(EDGE, cloud, options), request)
    assert tokens_of(rounds) == tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), request))
    for part in rounds[1:]:
        assert part.accepted <= (part.depth or 0) <= min(draft_length, nodes)
        assert part.drafted <= nodes
    assert not EDGE.is_loaded


def test_a_text_that_repeats_itself_is_accepted(cloud):
    request = Request(tuple(range(10, 40)), 120, frozenset())
    rounds = answer(TokenRecycling().open(EDGE, cloud, PLAIN), request)
    assert sum(part.accepted or 0 for part in rounds) > 30


def test_an_engine_that_reads_no_trees_is_refused_with_the_reason(tmp_path):
    slides = CloudModel(CloudSpec(model=str(tiny_mistral(tmp_path, window=8)), device="cpu"))
    with pytest.raises(SpecbenchError, match="cannot read a tree of drafted tokens"):
        TokenRecycling().open(EDGE, slides, PLAIN)


def test_a_rule_that_needs_a_distribution_is_refused_with_one_that_does_not():
    options = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
    with pytest.raises(SpecbenchError, match="whose tree has no distribution") as caught:
        TokenRecycling().validate(options)
    assert "verification=coupled" in caught.value.hint


def test_a_replay_says_what_its_trace_lacks():
    with pytest.raises(SpecbenchError, match="likeliest ids, which a trace does not hold"):
        list(play(Text.of("1" * 20, 20), ANY, TokenRecycling(), 4))
