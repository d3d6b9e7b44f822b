"""One target and many simulated edges."""

import pytest
from drawn_texts import TABLE, drawn, prices, simulated

from specbench.forecast import serving
from specbench.forecast.known import Known, measured_survival
from specbench.forecast.plan import (
    fastest,
    forecasts,
    served_by,
)
from specbench.forecast.replay import CONTROL, Timed, known_method, replay
from specbench.profile.cost_table import Costs
from specbench.render.plans import served_lines
from specbench.stats.closed_form import FORMS
from specbench.stats.prices import Prices


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
