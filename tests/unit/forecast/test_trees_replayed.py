"""Trees on a virtual clock: the rounds of a real run, from a trace of the draft's likeliest tokens."""

import pytest
from builders import shaken
from replays import TABLE, costs, drawn, prices
from specbench.plugins.speculative_tree import SpeculativeTree

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request, SpecbenchError
from specbench.forecast.events import charges_of
from specbench.forecast.grid import grid
from specbench.forecast.replay import play
from specbench.forecast.trace_making import readings
from specbench.forecast.traced_drafter import Text, runs_of
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.testing import answer, tiny_llama, tokens_of

REQUEST = Request(tuple(range(20, 50)), 40, frozenset())
GREEDY = Options(Decoding(), Speculative())


class Static(SpeculativeTree):
    """A tree of one shape."""

    def drafter(self, edge, options):
        return edge.tree_drafter(options, 20, (3, 2, 1, 1))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    target = tiny_llama(folder / "target", seed=7)
    near = shaken(folder / "near", target, by=0.1)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype="float64"))
    return EdgeModel(EdgeSpec(model=str(near), dtype="float64")), cloud


@pytest.fixture(scope="module")
def traced(pair):
    edge, cloud = pair
    tokens = tuple(tokens_of(answer(AutoregressiveDecoder(cloud.target(GREEDY)), REQUEST)))
    found = readings(edge.engine, GREEDY, REQUEST, tokens, cloud.engine, drawn=False)
    return Text(
        len(REQUEST.prompt_ids), 40, runs_of(found["agrees"]), tokens=tokens, prompt_ids=REQUEST.prompt_ids,
        likely=found["draft_top"],
    )  # fmt: skip


def figures(parts):
    return [(part.tokens, part.drafted, part.accepted, part.depth) for part in parts]


def test_a_static_tree_is_replayed_round_by_round(pair, traced):
    real = answer(Static().open(*pair, GREEDY), REQUEST)
    assert figures(one.part for one in play(traced, prices(), Static(), 4)) == figures(real)


def test_a_tree_that_grows_stands_about_as_often_as_the_real_one(pair, traced):
    real = answer(SpeculativeTree().open(*pair, GREEDY), REQUEST)
    found = play(traced, prices(), SpeculativeTree(), 4)
    assert [token for one in found for token in one.part.tokens] == tokens_of(real)
    assert {one.part.drafted for one in found[1:-2]} == {20}
    assert len(found) == pytest.approx(len(real), rel=0.2)


def test_a_grid_varies_how_many_nodes_a_tree_has(traced):
    over = {"methods.speculative_tree.nodes": [1, 4, 32]}
    rows = [row for row in grid([traced], costs(), ["speculative_tree"], [4], over) if row.draft_length]
    lengths = [row.acceptance_length for row in rows]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]


def test_a_depth_takes_a_step_of_the_draft_and_its_width_as_much_as_reading_does(traced):
    second = play(traced, prices(), Static(), 4)[1]
    charges = [charge for charge in charges_of(second.events) if charge.kind == "draft"]
    assert [(charge.first, charge.second) for charge in charges] == [(1, 1), (1, 3), (1, 6), (1, 6)]
    steps = 4 * TABLE["draft"]["step_ms"] + (2 + 5 + 5) * TABLE["draft"]["read_ms"]
    assert sum(prices().of(charge) for charge in charges) == pytest.approx(steps)


def test_a_trace_without_likely_tokens_says_what_trees_need():
    with pytest.raises(SpecbenchError, match="hold the draft's likeliest tokens"):
        play(drawn(0.5, 20), prices(), SpeculativeTree(), 4)
