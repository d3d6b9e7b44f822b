"""The oracle is below every method, and reached by the best of all plans."""

import random
from dataclasses import replace

import pytest
from replays import costs, drawn, prices, ranked
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.clock import virtual_time
from specbench.errors import SpecbenchError
from specbench.forecast.events import Timeline
from specbench.forecast.grid import grid
from specbench.forecast.oracle import Bound, lookups
from specbench.forecast.replay import known_method, timed
from specbench.forecast.traced_drafter import Text, runs_of
from specbench.forecast.varied import Varied, windowed
from specbench.forecast.virtual import VirtualDrafter, VirtualTarget
from specbench.results.records import CONTROL
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request

EXACT = {"draft__read_ms": 0.0}  # the oracle is not charged for reading
ALONE = "alone"


def executed(text, table, plan):
    """How many tokens a plan commits, and when the last one came, on the virtual target and drafter."""
    with virtual_time() as clock:
        timeline = Timeline(table, clock)
        drafter, target = VirtualDrafter(text, timeline.take), VirtualTarget(text, timeline)
        request = Request((0,) * text.prompt_tokens, text.budget, text.stop_ids)
        drafter.begin(request)
        drafter.commit(target.begin(request).tokens, 0)
        begun_ms = clock.now_ms
        for lengths in plan:
            if lengths == ALONE:
                drafter.commit(next(target.decode()).tokens, 0)
                continue
            sent = []
            for index, length in enumerate(lengths or (0,)):
                proposal = drafter.propose(length) if length else Proposal()
                proposal = replace(proposal, continues=index + 1 < len(lengths))
                sent.append((proposal, target.submit(proposal)))
            for proposal, pending in sent:
                part = pending.result()
                drafter.commit(part.tokens, part.accepted)
                if not proposal.stands(part):
                    break
        return text.budget - target.remaining, clock.now_ms - begun_ms


def divisions(tokens):
    """All ways to send so many tokens as proposals."""
    yield from ([()] if not tokens else [])
    for first in range(1, tokens + 1):
        yield from ((first, *rest) for rest in divisions(tokens - first))


def least_ms(text, table, plan=()):
    """The best of all plans, drafts that are refused among them."""
    committed, ms = executed(text, table, plan)
    left = len(text.runs) - committed
    if not left:
        return ms
    ways = [ALONE, (), *(way for tokens in range(1, min(3, left - 1) + 1) for way in divisions(tokens))]
    return min(least_ms(text, table, (*plan, way)) for way in ways)


@pytest.mark.parametrize("agrees", ["01111", "01011", "00000"])
@pytest.mark.parametrize("values", [{"link__rtt_ms": 0.0}, {"link__rtt_ms": 30.0}, {"draft__step_ms": 12.0}])
def test_it_is_what_the_best_of_all_plans_takes(agrees, values):
    text, table = Text.of(agrees, 5, 10), prices(**EXACT, **values)
    assert Bound().decode_ms(text, table) == pytest.approx(least_ms(text, table))


def test_it_is_below_the_best_plan_where_that_pays_for_what_the_oracle_does_not():
    text, table = Text.of("01101", 5, 10), prices(draft__read_ms=1.0, round_ms=0.5, draft__overlap_slowdown=1.5)
    assert Bound().decode_ms(text, table) <= least_ms(text, table)


@pytest.mark.parametrize("rtt_ms", [0.0, 10.0, 60.0, 200.0])
@pytest.mark.parametrize("alpha", [0.3, 0.7, 0.95])
def test_no_method_is_faster(alpha, rtt_ms):
    text, table = drawn(alpha, 60, 5), prices(link__rtt_ms=rtt_ms, link__uplink_mbps=1.0)
    least = Bound().decode_ms(text, table)
    methods = [windowed(SpeculativeDecoding(), window) for window in (1, 2, 8, 32, "auto")]
    methods += [known_method(name) for name in ("speculative_pipelined", "speculative_adaptive", CONTROL)]
    for method in methods:
        for length in (1, 3, 8, "auto"):
            assert timed(text, table, method, length).decode_ms >= least - 1e-9, (method.name, length)


@pytest.mark.parametrize("rtt_ms", [0.0, 10.0, 60.0])
@pytest.mark.parametrize("verify_ms", [{1: 20.0, 2: 21.0}, {1: 20.0}], ids=["dear", "flat"])
def test_no_method_is_faster_by_trees_either(rtt_ms, verify_ms):
    text, table = ranked(0.5, 60, 5), prices(verify_ms, link__rtt_ms=rtt_ms)
    least = Bound().decode_ms(text, table)
    assert least < Bound().decode_ms(replace(text, likely=()), table)
    methods = [Varied(known_method("speculative_tree"), 1, {"nodes": nodes}) for nodes in (4, 20, 63)]
    for method in (*methods, known_method("speculative_adaptive")):
        for length in (2, 4):
            assert timed(text, table, method, length).decode_ms >= least - 1e-9, (method.name, length)


def test_what_a_text_repeats_may_be_drafted_from_it():
    prompt, coin = tuple(range(100, 120)), random.Random(2)
    tokens = (*prompt[5:17], *(coin.randrange(50) for _ in range(8)), *prompt[3:15])
    text = replace(Text.of("0" * len(tokens), len(tokens), 20), tokens=tokens, prompt_ids=prompt)
    table = prices(link__rtt_ms=40.0)
    unknown = replace(text, prompt_ids=())
    assert Bound().decode_ms(text, table) < 0.8 * Bound().decode_ms(unknown, table)
    (suffix,) = lookups(text, (known_method("suffix"),))
    assert suffix[1] == 2  # as many as twice the match
    for name in ("suffix", "prompt_lookup", "hybrid", "speculative_adaptive"):
        took_ms = timed(text, table, known_method(name), 8).decode_ms
        assert took_ms >= Bound(["hybrid"]).decode_ms(text, table) - 1e-9


def test_a_stop_token_can_be_drafted_and_a_budget_leaves_room_for_the_targets_own_token():
    table = prices(**EXACT, link__rtt_ms=0.0)
    stopped, full = Text.of("0111", 9, 10), Text.of("0111", 4, 10)
    drafted = 3 * 2.0
    assert Bound().decode_ms(stopped, table) <= drafted + 20.0 + 3.0
    assert Bound().decode_ms(full, table) == pytest.approx(least_ms(full, table))


def test_a_draft_that_is_never_right_leaves_the_cloud_alone():
    text = Text.of("0" * 30, 30, 10)
    assert Bound().decode_ms(text, prices(link__rtt_ms=50.0)) == pytest.approx(29 * 20.0)


def test_every_row_of_a_grid_has_its_regret():
    texts = [drawn(0.8, 40, seed) for seed in range(3)]
    rows = list(grid(texts, costs(), ["speculative"], [2, 4], {"link.rtt_ms": [0, 80]}, oracle=True))
    assert len(rows) == 6
    assert all(row.regret >= 1 for row in rows)
    for row in rows:
        control = next(each for each in rows if each.method == CONTROL and each.condition == row.condition)
        assert row.regret == pytest.approx(control.regret / row.speedup)
    assert all(row.regret is None for row in grid(texts, costs(), ["speculative"], [2], {}))


def test_it_refuses_what_it_does_not_know():
    text = drawn(0.8, 40)
    with pytest.raises(SpecbenchError, match="has the target to itself"):
        list(grid([text], costs(), ["speculative"], [2], {"clients": [4]}, oracle=True))
    with pytest.raises(SpecbenchError, match="knows no gate"):
        Bound().decode_ms(replace(text, sure=runs_of("1" * 40)), prices())
