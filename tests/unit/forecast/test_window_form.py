"""Up to which round trip windows pay: the closed form, held against virtual runs."""

import pytest
from replays import drawn, prices

from specbench.forecast.known import Known, measured_survival, of_chances
from specbench.forecast.plan import alone_ms, forecast, with_windows
from specbench.forecast.replay import known_method, replay
from specbench.forecast.varied import windowed
from specbench.forecast.window_form import window_even
from specbench.profile.cost_table import Costs
from specbench.stats.prices import Prices

SPECULATIVE = known_method("speculative")
INT8 = {"step": 7.1, "verify": {1: 18.8, 2: 19.65}}
COSTS = {
    "an int8 edge": INT8,
    "a slow target": {"step": 10.0, "verify": {1: 60.0, 2: 61.0}},
    "a quick draft": {"step": 2.0, "verify": {1: 20.0, 2: 20.5}},
    "one machine": {"step": 5.0, "verify": {1: 20.0, 2: 20.5}, "slowdown": 1.15},
    "wide passes that cost": {"step": 2.0, "verify": {1: 20.0, 2: 22.0}},
}

ROUGH = ("one machine", "wide passes that cost")  # the formula is rougher there for middling drafts


def table(values, **more):
    slowdown = {"overlap_slowdown": values.get("slowdown", 1.0)}
    costs = Costs.model_validate(
        {
            "draft": {"step_ms": values["step"], **slowdown},
            "target": {"verify_ms": values["verify"], **slowdown},
            "link": more,
        }
    )
    return Prices(costs)


@pytest.mark.parametrize(
    ("name", "alpha"),
    [(name, alpha) for name in COSTS for alpha in (0.8, 0.9) if alpha > 0.8 or name not in ROUGH],
)
def test_within_15_percent_of_the_formula_virtual_runs_break_even(name, alpha):
    known, costs = of_chances((alpha,), [SPECULATIVE]), table(COSTS[name])
    even = window_even(costs, alone_ms(known, costs), alpha, 384)

    def speedup(rtt_ms):
        at = table(COSTS[name], rtt_ms=rtt_ms)
        methods = (windowed(SPECULATIVE, window) for window in (2, 3, 4, 6, 32))
        return max(forecast(known, at, method, even.draft_length).speedup for method in methods)

    assert speedup(even.rtt_ms * 0.85) > 1 > speedup(even.rtt_ms * 1.15)


def test_a_better_draft_and_a_longer_text_raise_the_break_even():
    costs = table(INT8)
    found = [
        window_even(costs, 18.8, alpha, tokens).rtt_ms
        for alpha, tokens in ((0.6, 96), (0.9, 96), (0.97, 96), (0.97, 960))
    ]
    assert found == sorted(found)
    assert found[2] > 5 * found[0]


def test_a_weak_draft_breaks_even_with_one_round_at_a_time():
    known, alpha = of_chances((0.57,), [SPECULATIVE]), 0.57
    weak = {"step": 2.1, "verify": {1: 17.7, 2: 19.3, 3: 20.8, 5: 21.0}}
    even = window_even(table(weak), 17.7, alpha, 384)
    single = [
        forecast(known, table(weak, rtt_ms=even.rtt_ms * share), SPECULATIVE, even.draft_length).speedup
        for share in (0.85, 1.15)
    ]
    assert single[0] > 1 > single[1]


def test_what_a_message_takes_besides_is_part_of_the_round_trip():
    without, held_up = (window_even(table(INT8, overhead_ms=ms), 18.8, 0.9, 96) for ms in (0.0, 4.0))
    assert without.rtt_ms - held_up.rtt_ms == pytest.approx(4.0)


def test_a_draft_as_slow_as_the_target_pays_nowhere_and_a_sentence_says_so():
    slow = table({"step": 20.0, "verify": {1: 20.0}})
    found = with_windows(of_chances((0.9,), [SPECULATIVE]), slow)
    assert found["speculative"].break_even_rtt_ms is None
    line = found["speculative"].told("speculative")
    assert line.endswith("pays at no round trip (by the formula: none).")


def test_methods_without_windows_are_left_out():
    assert with_windows(of_chances((0.9,), [known_method("speculative_pipelined")]), prices()) == {}


@pytest.mark.parametrize("window", [2, 8, "auto"])
@pytest.mark.parametrize("alpha", [0.6, 0.9])
def test_a_plan_by_chances_is_the_replay_of_texts_drawn_by_them(window, alpha):
    texts = [drawn(alpha, 600, seed) for seed in range(8)]
    known, method = of_chances(measured_survival(texts).conditional[:1]), windowed(SPECULATIVE, window)
    costs = prices(link__rtt_ms=40.0)
    replayed = replay(texts, costs, method, 4)
    ms_per_token = sum(one.decode_ms for one in replayed) / sum(one.tokens - 1 for one in replayed)
    assert forecast(known, costs, method, 4).ms_per_token == pytest.approx(ms_per_token, rel=0.06)


def test_over_a_trace_the_plan_is_its_replay():
    texts, costs = [drawn(0.9, 60)], prices()
    known, method = Known(measured_survival(texts), [SPECULATIVE], texts), windowed(SPECULATIVE, 4)
    (replayed,) = replay(texts, costs, method, 3)
    assert forecast(known, costs, method, 3).ms_per_token == pytest.approx(replayed.decode_ms / 59)
    assert alone_ms(known, costs) == pytest.approx(20.0)
