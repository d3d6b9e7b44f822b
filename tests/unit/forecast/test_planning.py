"""Plans, closed forms, replays and simulated edges: held against each other, and against arithmetic."""

from dataclasses import replace

import pytest
from comparisons import drafting
from drawn_texts import drawn, prices, replayed_ms

from specbench.forecast.known import Known, measured_survival, of_chances, of_records
from specbench.forecast.plan import (
    break_even_rtt_ms,
    farthest_ms,
    forecast,
    forecasts,
    planned,
    verdicts,
)
from specbench.forecast.replay import known_method, replay
from specbench.forecast.traced_drafter import Text
from specbench.stats.acceptance import Survival
from specbench.stats.closed_form import FORMS


def closed_ms(survival, table, method, draft_length):
    """What the closed form of a method says that a token takes."""
    terms = FORMS[method](survival, table, draft_length, table.rtt_ms)
    return sum(terms.values()) / survival.tokens(draft_length)


def said(chances, table):
    known = of_chances(chances)
    return verdicts(planned(known, table), known, table)


def test_tokens_a_round_follow_the_survival_curve():
    survival = Survival((0.5, 0.8))
    assert survival.curve(4) == pytest.approx([0.5, 0.4, 0.32, 0.256])
    assert survival.tokens(3) == pytest.approx(2.22)
    assert survival.mean == pytest.approx(0.9 / 1.5)


def test_with_equal_chances_both_formulas_agree():
    survival = Survival((0.7,))
    for length in range(1, 10):
        assert survival.tokens(length) == pytest.approx(survival.tokens_if_equal(length))
    assert Survival((1.0,)).tokens_if_equal(5) == Survival((1.0,)).tokens(5) == 6


def test_a_heavy_head_makes_the_formula_for_equal_chances_wrong():
    survival = Survival((0.6, 0.9, 0.9, 0.9))
    assert survival.tokens(8) - survival.tokens_if_equal(8) > 0.2


def test_survival_is_read_back_from_texts_that_were_drawn_by_it():
    found = measured_survival(drawn(0.75))
    assert found.conditional[:6] == pytest.approx([0.75] * 6, abs=0.02)


def test_a_run_says_nothing_of_positions_that_few_drafts_came_to():
    parts = [(3, 0, 1)] * 10 + [(3, 1, 2)] * 9 + [(3, 3, 4)]
    found = of_records([replace(drafting(*parts), method="speculative", verification="greedy")])
    assert found.survival.conditional == (0.5, 0.1)  # the third was judged once
    few = of_records([replace(drafting(*parts[-4:]), method="speculative")])
    assert few.survival.conditional == (1.0,)
    assert of_records([drafting(*parts)]) is None
    assert "speculative_pipelined" in [method.name for method in found.methods]
    drawn_by = replace(drafting(*parts), method="speculative", verification="rejection")
    assert "speculative_pipelined" not in [method.name for method in of_records([drawn_by]).methods]
    fed = of_records([replace(drafting(*parts), method="speculative_eagle", verification="greedy")])
    assert fed.survival == found.survival
    assert [method.name for method in fed.methods] == ["speculative"]


@pytest.mark.parametrize("text", ["0000", "0111", "01"])
def test_what_lies_behind_the_end_of_a_text_was_never_judged(text):
    found = measured_survival([Text.of(text, 60)] * 20)
    assert set(found.conditional) <= {0.0, 1.0}
    assert len(found.conditional) == (1 if text == "0000" else text.count("1"))


LINKS = [(0.5, 0.0), (0.85, 10.0), (0.5, 60.0)]
MORE_LINKS = [pytest.param(*each, marks=pytest.mark.slow) for each in ((0.85, 0.0), (0.5, 10.0), (0.85, 60.0))]


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize(("alpha", "rtt"), [*LINKS, *MORE_LINKS])
def test_closed_form_and_replay_agree(method, rtt, alpha):
    texts, table = drawn(alpha), prices(link__rtt_ms=rtt)
    for length in (1, 3, 7):
        closed = closed_ms(Survival((alpha,)), table, method, length)
        assert closed == pytest.approx(replayed_ms(texts, table, method, length), rel=0.03)


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("chances", [(0.5,), (0.95,), (0.6, 0.9, 0.8)])
def test_a_plan_from_chances_agrees_with_the_closed_form(method, chances):
    known = of_chances(chances)
    for rtt in (0.0, 10.0, 60.0):
        table = prices(link__rtt_ms=rtt)
        for length in (1, 4, 16):
            found = forecast(known, table, known_method(method), length)
            assert found.tokens_per_round == pytest.approx(known.survival.tokens(length))
            closed = closed_ms(known.survival, table, method, length)
            assert found.ms_per_token == pytest.approx(closed, rel=0.03)
            assert sum(found.terms.values()) / found.tokens_per_round == pytest.approx(found.ms_per_token)


def test_the_terms_of_a_round_are_what_it_is_spent_on():
    known, table = of_chances((0.6, 0.9)), prices()
    terms = forecast(known, table, known_method("speculative"), 4).terms
    expected = FORMS["speculative"](known.survival, table, 4, table.rtt_ms)
    # By chances, whole rounds are as frequent as they should be, but not each kind of round before them.
    assert terms.pop("draft") == pytest.approx(expected.pop("draft"), rel=0.01)
    assert terms.pop("bytes") == pytest.approx(expected.pop("bytes"), rel=0.01)
    assert terms == pytest.approx(expected)
    there = forecast(known, table, known_method("speculative_colocated"), 4).terms
    assert (there["round trip"], there["bytes"]) == (0.0, 0.0)


def test_a_plan_over_a_trace_is_its_replay():
    texts, table = drawn(0.7, tokens=60, count=5), prices()
    known = Known(measured_survival(texts), [], texts)
    for method in FORMS:
        found = forecast(known, table, known_method(method), 3)
        assert found.ms_per_token == pytest.approx(replayed_ms(texts, table, method, 3))


def test_drafting_pays_where_what_a_round_wins_exceeds_what_it_costs():
    survival, t = Survival((0.8, 0.7)), 20.0
    for length in range(1, 9):
        for rtt in (0.0, 5.0, 15.0, 25.0, 40.0):
            table = prices(link__rtt_ms=rtt, link__uplink_mbps=None, link__downlink_mbps=None, round_ms=0.0,
                           draft__read_ms=0.0)  # fmt: skip
            c, v = 2.0 / t, table.verify_ms[length + 1] / t
            pays = sum(survival.curve(length)) > length * c + (v - 1) + rtt / t
            assert (table.verify_ms[1] > closed_ms(survival, table, "speculative", length)) == pays


@pytest.mark.parametrize("method", ["speculative", "speculative_pipelined"])
def test_at_the_break_even_round_trip_the_best_length_is_as_fast_as_the_cloud_alone(method):
    known, method = of_chances((0.85, 0.8)), known_method(method)
    even = farthest_ms(planned(replace(known, methods=[method]), prices())[method.name])
    at_it = [each.speedup for each in forecasts(known, prices(link__rtt_ms=even), method)]
    beyond = [each.speedup for each in forecasts(known, prices(link__rtt_ms=even + 1), method)]
    assert max(at_it) == pytest.approx(1.0, abs=1e-3)
    assert max(beyond) < 1


def test_pipelining_hides_part_of_the_round_trip_and_so_pays_farther():
    known = of_chances((0.9,))
    near, far = (
        break_even_rtt_ms(known, prices(), known_method(name), 4)
        for name in ("speculative", "speculative_pipelined")
    )
    assert far > near


@pytest.mark.slow
def test_it_says_in_words_when_no_setting_can_win():
    lines = said((0.1,), prices(draft__step_ms=15.0))
    assert len(lines) == 3
    assert all("no draft length can win" in line for line in lines)
    assert all("mostly draft" in line for line in lines)
    far = said((0.8,), prices(link__rtt_ms=500.0))
    assert "no draft length wins at a round trip of 500 ms" in far[0]
    assert "mostly round trip" in far[0]
    assert "at any round trip" in far[2]


@pytest.mark.parametrize("beside", [{}, {"colocated_step_ms": 1.5}])
def test_faster_edge_hardware_does_not_move_the_draft_in_the_cloud(beside):
    texts, known = drawn(0.7), of_chances((0.7,))
    prompts = {"draft__prefill_ms": {10: 5.0}, "target__prefill_ms": {10: 50.0}, **beside}
    slow, fast, both = (
        prices(**prompts, **speeds)
        for speeds in ({}, {"draft__speed": 8.0}, {"draft__speed": 8.0, "target__speed": 8.0})
    )
    name = "speculative_colocated"
    assert forecast(known, fast, known_method(name), 3) == forecast(known, slow, known_method(name), 3)
    assert replay(texts, fast, name, 3) == replay(texts, slow, name, 3)
    ratio = replayed_ms(texts, slow, name, 3) / replayed_ms(texts, both, name, 3)
    assert ratio > 7
    first = [replay(texts[:1], one, name, 3)[0].ttft_ms for one in (fast, both)]
    assert first[0] - first[1] == pytest.approx(55.0 * 7 / 8)
