"""Energy and money of replays and plans: by hand, labelled modelled, absent without a power model or prices."""

import io
from dataclasses import replace

import pytest
from replays import TABLE, costs, drawn, line
from rich.console import Console

from specbench.errors import SpecbenchError
from specbench.forecast.grid import grid
from specbench.forecast.grid_making import planned_rows
from specbench.forecast.known import of_chances
from specbench.forecast.objectives import choices
from specbench.forecast.plan import plan
from specbench.forecast.replay import replay, spent
from specbench.forecast.spending import Modelled, Use, modelled
from specbench.forecast.traced_drafter import Text
from specbench.profile.cost_table import Costs, read_costs, write_costs
from specbench.render import modelled as shown
from specbench.render.forecasts import grid_table, map_table
from specbench.render.plans import plan_document, plan_table
from specbench.render.report.grids import grid_document, grid_markdown
from specbench.render.report.heat import map_drawings
from specbench.render.report.maps import map_page
from specbench.results.records import CONTROL
from specbench.stats.prices import Prices

POWER = {"edge_idle_w": 2.0, "draft_w": 10.0, "cloud_idle_w": 50.0, "verify_w": 300.0, "radio_j_per_byte": 1e-4}
MONEY = {"edge_per_hour": 0.036, "cloud_per_hour": 3.6, "network_per_gb": 10.0}


def powered(**values):
    table = Costs.model_validate({**TABLE, "power": POWER, "prices": MONEY})
    return table.with_values({key.replace("__", "."): value for key, value in values.items()})


def printed(*parts):
    console = Console(width=220, file=io.StringIO())
    console.print(*parts)
    return console.file.getvalue()


def test_a_round_takes_what_its_parts_do_by_hand():
    """Two tokens drafted (4 ms, 0.5 ms to read one), a pass over three (22 ms), 10 ms there and back."""
    text = Text.of("11" * 9, 20, 10)
    (timed,) = replay([text], Prices(powered()), "speculative", 2)
    use, rounds = timed.use, timed.rounds
    assert use.target_ms == pytest.approx(22.0 * rounds, rel=0.2)
    assert use.draft_ms == pytest.approx(4.5 * rounds, rel=0.25)
    assert use.sent_bytes == pytest.approx((40 + 2 * 3 + 40 + 3 * 3) * rounds, rel=0.2)


def test_power_and_prices_are_charged_for_the_time_of_each_part():
    found = modelled(Use(draft_ms=100.0, target_ms=200.0, sent_bytes=1000.0), 1000.0, 10, powered())
    assert found.edge_joules_per_token == pytest.approx((2 * 1.0 + 8 * 0.1 + 0.1) / 10)
    assert found.cloud_joules_per_token == pytest.approx(300 * 0.2 / 10)
    assert found.joules_per_token == pytest.approx(found.edge_joules_per_token + found.cloud_joules_per_token)
    assert found.cost_per_million == pytest.approx((1e-5 * 1.0 + 1e-3 * 0.2 + 1e-5) / 10 * 1e6)


def test_a_cloud_of_a_number_of_clients_is_paid_for_and_idles_in_equal_parts():
    use = Use(draft_ms=0.0, target_ms=200.0)
    alone, four = (modelled(use, 1000.0, 10, powered(), clients) for clients in (1, 4))
    assert alone.cloud_joules_per_token == pytest.approx((300 * 0.2 + 50 * 0.8) / 10)
    assert four.cloud_joules_per_token == pytest.approx((300 * 0.2 + 50 * 0.05) / 10)
    assert alone.cost_per_million - four.cost_per_million == pytest.approx(1e-3 * 0.75 / 10 * 1e6)


def test_without_a_power_model_energy_is_absent_and_without_prices_money_is():
    use = Use(1.0, 1.0, 1.0)
    assert modelled(use, 1.0, 1, costs()) == Modelled()
    only_power = Costs.model_validate({**TABLE, "power": POWER})
    assert modelled(use, 1.0, 1, only_power).cost_per_million is None
    assert modelled(use, 1.0, 1, only_power).joules_per_token > 0
    rows = list(grid([drawn(0.8, 30)], costs(), ["speculative"], [2], {}))
    assert choices(rows) == []
    assert shown.disagreement(rows) is None
    assert "odelled" not in printed(grid_table(rows, "t"))


def test_a_draft_that_is_wasted_is_paid_for():
    texts = [drawn(0.5, 60)]
    ahead, plain = (
        spent(replay(texts, Prices(powered(link__rtt_ms=40.0)), name, 3), powered())
        for name in ("speculative_pipelined", "speculative")
    )
    assert ahead.edge_joules_per_token > plain.edge_joules_per_token


def rows_of(over, methods=("speculative", "speculative_colocated"), lengths=(1, 2, 4), **values):
    return list(grid([drawn(0.7, 60), drawn(0.9, 60, 1)], powered(**values), methods, lengths, over))


def test_the_greenest_and_the_cheapest_may_take_another_draft_length_than_the_fastest():
    rows = rows_of({"link.rtt_ms": [0.0, 60.0]}, ("speculative",), draft__step_ms=5.0, power__draft_w=900.0)
    near, far = choices(rows)
    for found in (near, far):
        assert found.cheapest.cost_per_million == min(
            row.cost_per_million for row in rows if row.condition == found.condition
        )
        assert found.greenest.joules_per_token == min(
            row.joules_per_token for row in rows if row.condition == found.condition
        )
    assert near.fastest.method == "speculative"
    assert near.greenest.method == CONTROL
    assert not near.agree


def test_tables_pages_and_charts_say_modelled_where_they_name_them():
    rows = rows_of({"link.rtt_ms": [0.0, 60.0], "draft.speed": [1.0, 2.0]}, power__draft_w=900.0)
    text = printed(map_table(rows, "a map"))
    assert shown.heading(rows) in text
    assert "greenest" in text
    assert "cheapest" in text
    assert shown.disagreement(rows) in text.replace("\n", " ")
    document = grid_document(rows)
    assert len(document["choices"]) == 4
    assert {drawing.name for drawing in map_drawings(rows)} >= {"winner", "cheapest", "greenest"}
    assert "The greenest method (modelled)" in map_page(rows, "a map")
    assert "Modelled: fastest" in grid_markdown(rows, "a map")


def test_where_the_objectives_agree_a_sentence_says_so():
    rows = rows_of({"link.rtt_ms": [0.0, 1.0]}, methods=("speculative_colocated",), power__draft_w=11.0)
    assert "are one method under all 2 conditions" in shown.disagreement(rows)


def test_a_text_that_is_not_the_clouds_is_never_cheapest():
    control, other = line((10, 2.0))
    cheap = [replace(control, cost_per_million=2.0), replace(other, cost_per_million=1.0, lossless=None)]
    assert choices(cheap)[0].cheapest.method == CONTROL
    assert choices(cheap)[0].greenest is None


def test_a_replay_of_many_clients_shares_what_the_target_computes():
    one, eight = (
        next(row for row in rows_of({"clients": [count]}, ("speculative",), (2,)) if row.method != CONTROL)
        for count in (1, 8)
    )
    assert eight.cloud_joules_per_token < one.cloud_joules_per_token
    assert eight.cost_per_million < one.cost_per_million


def test_a_plan_tells_energy_and_money_of_each_method_and_of_a_deployment():
    known, prices = of_chances((0.8, 0.7)), Prices(powered())
    made = plan(known, prices, objective_ms=40.0)
    text = printed(plan_table(made)).replace("\n", " ")
    assert "modelled, the cloud alone:" in text
    assert "modelled, speculative: greenest at draft length" in text
    assert "clients on one target:" in text
    document = plan_document(made)
    assert document["cloud_alone"]["joules_per_token"] > 0
    assert document["methods"]["speculative"]["cheapest_draft_length"] >= 1
    served = [each for each in document["clients"].values() if each]
    assert all(each["cost_per_million"] > 0 for each in served)


def test_a_plan_and_a_replay_of_the_same_acceptance_say_the_same():
    known = of_chances((0.8,))
    planned = [row for row in planned_rows(known, powered(), {}) if row.method == "speculative"]
    texts = [drawn(0.8, 3000, seed) for seed in range(3)]
    length = planned[0].draft_length
    replayed = spent(replay(texts, Prices(powered()), "speculative", length), powered())
    assert planned[0].joules_per_token == pytest.approx(replayed.joules_per_token, rel=0.05)
    assert planned[0].cost_per_million == pytest.approx(replayed.cost_per_million, rel=0.05)


def test_power_and_prices_are_kept_in_the_table_and_a_busy_machine_takes_no_less_than_an_idle_one(tmp_path):
    write_costs(tmp_path / "c.yaml", powered())
    assert read_costs(tmp_path / "c.yaml") == powered()
    with pytest.raises(SpecbenchError, match="edge_idle_w is above draft_w"):
        powered(power__draft_w=1.0)
