"""Plans, closed forms, replays and simulated edges: held against each other, and against arithmetic."""

import random
from dataclasses import replace

import pytest
from comparisons import drafting

from specbench.forecast import serving
from specbench.forecast.known import Known, measured_survival, of_chances, of_records
from specbench.forecast.plan import (
    break_even_rtt_ms,
    farthest_ms,
    fastest,
    forecast,
    forecasts,
    planned,
    served_by,
    verdicts,
)
from specbench.forecast.replay import CONTROL, Timed, known_method, replay
from specbench.forecast.traced_drafter import Text
from specbench.profile.cost_table import Costs
from specbench.render.forecasts import served_lines
from specbench.stats.acceptance import Survival
from specbench.stats.closed_form import FORMS
from specbench.stats.prices import Prices

TABLE = {
    "draft": {"step_ms": 2.0, "read_ms": 0.5},
    "target": {"verify_ms": {1: 20.0, 5: 24.0, 9: 32.0}},
    "link": {"rtt_ms": 10.0, "uplink_mbps": 5.0, "downlink_mbps": 5.0},
    "round_ms": 0.3,
}


def prices(**values):
    table = Costs.model_validate(TABLE)
    return Prices(table.with_values({key.replace("__", "."): value for key, value in values.items()}))


def drawn(alpha, tokens=400, count=40):
    coin = random.Random(3)
    bits = ("".join("01"[coin.random() < alpha] for _ in range(tokens)) for _ in range(count))
    return [Text.of(each, tokens, 10) for each in bits]


def closed_ms(survival, table, method, draft_length):
    """What the closed form of a method says that a token takes."""
    terms = FORMS[method](survival, table, draft_length, table.rtt_ms)
    return sum(terms.values()) / survival.tokens(draft_length)


def simulated(texts, table, method, draft_length, clients):
    work = serving.scripts(texts, table, known_method(method), draft_length)
    return serving.simulate(work, table, clients)


def said(chances, table):
    known = of_chances(chances)
    return verdicts(planned(known, table), known, table)


def replayed_ms(texts, table, method, draft_length):
    timed = replay(texts, table, method, draft_length)
    return sum(one.decode_ms for one in timed) / sum(one.tokens - 1 for one in timed)


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


@pytest.mark.parametrize("text", ["0000", "0111", "01"])
def test_what_lies_behind_the_end_of_a_text_was_never_judged(text):
    found = measured_survival([Text.of(text, 60)] * 20)
    assert set(found.conditional) <= {0.0, 1.0}
    assert len(found.conditional) == (1 if text == "0000" else text.count("1"))


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("rtt", [0.0, 10.0, 60.0])
@pytest.mark.parametrize("alpha", [0.5, 0.85])
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


def test_one_client_of_the_simulation_is_the_replay():
    texts, table = drawn(0.7, tokens=60, count=5), prices()
    for length in (1, 4):
        load = simulated(texts, table, "speculative", length, clients=1)
        expected = [one.decode_ms / 59 for one in replay(texts, table, "speculative", length)]
        assert load.tpot_ms[:5] == pytest.approx([*expected[1:], expected[0]])
    alone = simulated(texts, table, CONTROL, 1, clients=1)
    assert load.tpot_ms[-1] == pytest.approx(expected[16 % 5])
    assert alone.tpot_ms == pytest.approx([replay(texts[:1], table, CONTROL, 1)[0].decode_ms / 59] * 16)
    assert alone.busy == pytest.approx(1.0)


@pytest.mark.parametrize("method", [*FORMS, CONTROL])
def test_one_client_of_every_method_takes_what_the_replay_says(method):
    texts = drawn(0.7, tokens=80, count=6)
    for table in (prices(), prices(link__rtt_ms=0.0), prices(round_ms=0.7)):
        load = simulated(texts, table, method, 3, clients=1)
        expected = [one.decode_ms / 79 for one in replay(texts, table, method, 3)]
        assert load.tpot_ms[:6] == pytest.approx([*expected[1:], expected[0]], rel=0.01)


def test_drafts_beside_the_target_take_it_from_the_other_clients():
    texts, table = drawn(0.7, tokens=60), prices(colocated_step_ms=6.0)
    apart, beside = (
        simulated(texts, table, method, 3, 8).busy for method in ("speculative", "speculative_colocated")
    )
    assert beside > apart


def test_clients_that_stream_share_every_pass():
    load = simulated(drawn(0.7, tokens=60, count=4), prices(), CONTROL, 1, clients=4)
    assert load.tpot_ms == pytest.approx([23.0] * 16)  # four rows a pass
    assert load.rows_per_pass > 3


def test_a_narrow_target_makes_clients_wait():
    texts, table = drawn(0.7, tokens=60), prices(target__speed=0.5)
    times = [simulated(texts, table, "speculative", 3, clients).high_ms for clients in (1, 4, 16)]
    assert times == sorted(times)
    assert times[-1] > 1.5 * times[0]


def test_prompts_take_the_target_from_those_who_decode():
    texts = drawn(0.7, tokens=60)
    slow = Prices(prices().costs.model_copy(update={"target": TARGET_WITH_PROMPTS}))
    free, held = (simulated(texts, table, CONTROL, 1, 6).high_ms for table in (prices(), slow))
    assert held > free


TARGET_WITH_PROMPTS = Costs.model_validate(
    {**TABLE, "target": {**TABLE["target"], "prefill_ms": {1: 300.0}}}
).target


def test_as_many_clients_are_served_as_keep_to_the_objective():
    asked = []

    def run(clients):
        asked.append(clients)
        return serving.Load(clients, (Timed(None, 10.0 + clients, 2),), 0.5, 1.0)

    assert serving.most_clients(run, 47.0).clients == 37
    assert len(asked) < 20
    assert serving.most_clients(run, 10.5) is None
    assert serving.most_clients(run, 1e9).clients == serving.MOST_CLIENTS


def test_what_is_looked_for_no_farther_is_called_at_least_that_many():
    def lines(most, beyond=0):
        load = serving.most_clients(
            lambda clients: serving.Load(clients, (Timed(None, float(clients), 2),), 0.5, 1.0), most, beyond
        )
        return load and served_lines({"speculative": (3, load)}, most)[0]

    assert lines(300.0).startswith("speculative, draft length 3: 300 clients")
    assert lines(1e9).startswith("speculative, draft length 3: at least 512 clients")
    assert lines(300.0, beyond=299).startswith("speculative, draft length 3: 300 clients")
    assert lines(300.0, beyond=300) is None
    assert lines(1e9, beyond=serving.MOST_CLIENTS) is None


def test_many_clients_are_served_best_by_another_length_than_one():
    """Passes are shared: wasted draft tokens cost the others."""
    texts, target = drawn(0.85, tokens=60, count=12), {"verify_ms": {1: 20.0, 9: 22.0, 64: 120.0}}
    table = Prices(Costs.model_validate({**TABLE, "link": {"rtt_ms": 30.0}, "target": target}))
    method = known_method("speculative")
    known = Known(measured_survival(texts), [method], texts)
    alone = {
        length: serving.most_clients(
            lambda clients, length=length: simulated(texts, table, "speculative", length, clients), 35.0
        ).clients
        for length in (2, 8)
    }
    length, load = served_by(known, table, method, 35.0)
    assert fastest(forecasts(known, table, method)).draft_length >= 8
    assert length < 8
    assert load.clients >= alone[2] > alone[8]


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


def test_it_says_in_words_when_no_setting_can_win():
    lines = said((0.1,), prices(draft__step_ms=15.0))
    assert len(lines) == 3
    assert all("no draft length can win" in line for line in lines)
    assert all("mostly draft" in line for line in lines)
    far = said((0.8,), prices(link__rtt_ms=500.0))
    assert "no draft length wins at a round trip of 500 ms" in far[0]
    assert "mostly round trip" in far[0]
    assert "whatever the round trip" in far[2]


def test_the_command_plans_from_chances_alone(specbench):
    done = specbench(
        "plan", "--acceptance", "0.8,0.7", "--set", "link.rtt_ms=5", "--objective-ms", "60", "--json"
    )
    assert done.code == 0, done.err
    plan = done.json["methods"]["speculative"]
    assert (
        plan["best_draft_length"] == min(plan["forecasts"], key=lambda row: row["ms_per_token"])["draft_length"]
    )
    assert done.json["methods"]["speculative_colocated"]["any_rtt"]
    assert all(load["clients"] >= 1 for load in done.json["clients"].values())
    shown = specbench("plan", "--acceptance", "0.8,0.7").out
    assert "speculative: draft length" in shown
    assert "equal chances" in shown


def test_the_command_plans_from_a_stored_run(specbench, profile):
    assert specbench("run", "speculative", "--profile", profile(edge={"layers": 1})).code == 0
    done = specbench("plan", "--run", specbench("compare", "--json").json["runs"][0], "--json")
    assert done.code == 0, done.err
    assert done.json["conditional_acceptance"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "from one place"),
        (["--acceptance", "0.8", "--run", "x"], "from one place"),
        (["--acceptance", "80%"], "chances between 0 and 1"),
        (["--acceptance", "1.2"], "chances between 0 and 1"),
        (["--acceptance", "nan"], "chances between 0 and 1"),
        (["--run", "none"], "no run"),
        (["--trace", "none.json"], "cannot be read"),
        (["--acceptance", "0.8", "--costs", "none.yaml"], "cannot be read"),
        (["--acceptance", "0.8", "--costs", "none.yaml", "--step-ms", "9"], "--step-ms has no effect"),
        (["--acceptance", "0.8", "--step-ms", "0"], "step_ms"),
        (["--acceptance", "0.8", "--set", "rtt"], "key=value"),
        (["--acceptance", "0.8", "--set", "rtt=4"], "no value 'rtt'"),
    ],
)
def test_a_plan_from_nonsense_gets_one_clear_error(specbench, options, message):
    done = specbench("plan", *options)
    assert done.code in (2, 3, 5)
    assert message in done.err


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


def test_an_infinite_break_even_is_null_in_json(specbench):
    done = specbench("plan", "--acceptance", "0.9", "--json")
    assert done.code == 0, done.err
    assert "Infinity" not in done.out
    assert done.json["methods"]["speculative_colocated"]["forecasts"][0]["break_even_rtt_ms"] is None


def test_a_plan_over_a_grid_is_the_map_that_a_replay_gives(specbench, tmp_path):
    by_hand = ("--acceptance", "0.8,0.7", "--step-ms", "20", "--cost-ratio", "0.1")
    over = ("--over", "link.rtt_ms=0,10,40", "--over", "target.speed=1,4")
    done = specbench("plan", *by_hand, *over, "--charts", tmp_path / "maps", "--json")
    assert done.code == 0, done.err
    rows = {(row["method"], *row["condition"].values()): row for row in done.json["rows"]}
    single = specbench("plan", *by_hand, "--set", "link.rtt_ms=10", "--json").json["methods"]["speculative"]
    found = rows["speculative", 10, 1]
    assert found["draft_length"] == single["best_draft_length"]
    assert found["speedup"] == single["forecasts"][found["draft_length"] - 1]["speedup"]
    even = next(each for each in done.json["break_even"] if each["method"] == "speculative")
    assert even["rtt_ms"] == pytest.approx(single["break_even_rtt_ms"], rel=0.1)
    assert (tmp_path / "maps" / "winner.svg").exists()
    assert "fastest" in specbench("plan", *by_hand, *over).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--charts", "maps"), "which --over makes"),
        (("--over", "link.rtt=1,2"), "no value 'link.rtt'"),
        (("--over", "link.rtt_ms=1,2", "--objective-ms", "9"), "no effect"),
    ],
)
def test_a_plan_over_what_is_no_grid_gets_one_clear_error(specbench, words, message):
    done = specbench("plan", "--acceptance", "0.8", *words)
    assert done.code == 2
    assert message in done.err
