"""Replayed methods: what each part costs, and when."""

import pytest
from replays import TABLE, drawn, prices

from specbench.clock import VirtualClock
from specbench.forecast.events import Asked, Awaited, Streamed, Timeline, charges_of
from specbench.forecast.replay import CONTROL, SCHEDULES, known_method, play, replay
from specbench.forecast.traced_drafter import Text
from specbench.profile.cost_table import Costs
from specbench.stats.prices import Charge, Prices, at


def events_of(text, table, method, length):
    """What a method does behind its first token."""
    return [event for one in play(text, table, known_method(method), length)[1:] for event in one.events]


def drafts(text, length):
    """The draft's passes of `speculative`."""
    found = charges_of(events_of(text, prices(), "speculative", length))
    return [charge for charge in found if charge.kind == "draft"]


def autoregressive(text, table):
    return replay([text], table, CONTROL, 1)[0]


def synchronous(text, table, length):
    return replay([text], table, "speculative", length)[0]


def pipelined(text, table, length):
    return replay([text], table, "speculative_pipelined", length)[0]


def colocated(text, table, length):
    return replay([text], table, "speculative_colocated", length)[0]


def test_times_between_two_counts_lie_on_a_line_and_beyond_them_its_slope_goes_on():
    assert [at({1: 20.0, 5: 24.0}, width) for width in (1, 3, 5, 9)] == [20, 22, 24, 28]
    assert [at({4: 7.0}, width) for width in (1, 4, 60)] == [7, 7, 7]
    assert at({1: 5.0, 2: 4.0}, 9) == 4.0


def test_a_synchronous_round_takes_the_sum_of_its_parts():
    text = Text.of("01100", budget=5, prompt_tokens=10)
    first, last = 2 * 2.0 + 22.0 + 10.0, 0.5 + 0.0
    found = synchronous(text, prices(), 2)
    del last
    # Two tokens stand and the bonus token ends behind them; one is left, which nothing can be drafted for.
    assert found.decode_ms == pytest.approx(first + 20.0 + 10.0)
    assert (found.tokens, found.rounds, found.drafted, found.accepted) == (5, 2, 2, 2)
    assert (found.drafting_rounds, found.drafting_tokens) == (1, 3)  # the plain step is none of them
    assert found.ttft_ms == pytest.approx(5.0 + 50.0 + 10.0)


def test_a_draft_behind_one_that_stood_whole_reads_one_token_more():
    text = Text.of("011111111", budget=20, prompt_tokens=10)
    assert [charge.second for charge in drafts(text, 2)] == [1, 2, 2]
    apart = prices(draft__read_ms=0.0), prices(draft__read_ms=0.5)
    cheap, dear = (synchronous(text, each, 2).decode_ms for each in apart)
    assert dear - cheap == pytest.approx(2 * 0.5)


def test_the_cloud_alone_pays_the_round_trip_once():
    text = drawn(0.5, 41)
    near, far = (autoregressive(text, prices(link__rtt_ms=rtt)) for rtt in (0.0, 300.0))
    assert near.decode_ms == far.decode_ms == 40 * 20.0
    assert far.ttft_ms - near.ttft_ms == 300.0


def test_a_narrow_downlink_bounds_what_is_streamed():
    table = prices(link__downlink_mbps=0.001)
    assert autoregressive(drawn(0.5, 3), table).decode_ms == pytest.approx(2 * (40 + 3) * 8)
    assert colocated(drawn(0.0, 3), table, 1).decode_ms == pytest.approx(2 * (40 + 3) * 8)


def test_a_draft_pays_for_its_bytes_on_the_uplink():
    text = Text.of("0000", budget=90, prompt_tokens=10)
    free, dear = (synchronous(text, each, 4).decode_ms for each in (prices(), prices(link__uplink_mbps=0.1)))
    assert dear - free == pytest.approx(3 * (40 + 4 * 3) * 8 / 100)


def piped(agrees, step_ms, draft_length=2):
    """A pipelined text whose every answer takes 30 ms: 20 of the target and 10 of the link."""
    table = {**TABLE, "draft": {"step_ms": step_ms, "read_ms": 0.5}, "target": {"verify_ms": {1: 20.0}}}
    return pipelined(Text.of(agrees, len(agrees), 10), Prices(Costs.model_validate(table)), draft_length)


def test_a_pipelined_draft_that_is_right_is_never_waited_for_again():
    found = piped("0111111111", step_ms=2.0)
    assert found.decode_ms == pytest.approx(2 * 2.0 + 3 * 30.0)
    assert (found.rounds, found.drafted, found.accepted, found.wasted) == (3, 6, 6, 0)


def test_a_slow_draft_carries_over_what_it_had_time_for_and_finishes_the_step_that_it_began():
    # Two steps are begun within the 30 ms: the guess, and the first token of the next proposal.
    found = piped("0111111", step_ms=20.0)
    assert found.decode_ms == pytest.approx(2 * 20.0 + 2 * 20.0 + 1 * 20.0 + 30.0)
    assert (found.rounds, found.wasted) == (2, 0)


def test_what_was_drafted_behind_a_wrong_guess_is_wasted_and_drafted_again():
    # Both rounds stand whole, and the token that the target adds is not the one that was guessed.
    found = piped("0110110", step_ms=2.0)
    assert found.wasted == 3
    assert found.decode_ms == pytest.approx(2 * (2 * 2.0 + 30.0))


def test_what_was_drafted_behind_a_refused_token_is_wasted():
    found = piped("0100000", step_ms=2.0)
    assert (found.rounds, found.accepted) == (5, 1)
    assert found.wasted == 3


def test_nothing_is_drafted_behind_a_proposal_that_ends_the_text():
    text = Text.of("0110111", 50, 10)  # the seventh token is the stop token
    found = pipelined(text, prices(draft__step_ms=2.0), 4)
    assert found.accepted == 5
    assert (
        found.wasted == 4 + 1
    )  # the whole next proposal behind the first round's guess, and none behind the last


def test_in_the_cloud_the_draft_takes_the_clouds_time_and_no_round_trip():
    text = drawn(0.7, 60)
    here = synchronous(text, prices(link__rtt_ms=0.0), 3)
    assert colocated(text, prices(link__rtt_ms=80.0), 3).decode_ms == pytest.approx(here.decode_ms)
    fast = colocated(text, prices(colocated_step_ms=0.2), 3)
    saved = here.drafted * 1.8 + sum(0.45 for charge in drafts(text, 3) if charge.second == 2)
    assert here.decode_ms - fast.decode_ms == pytest.approx(saved)


def test_a_faster_target_divides_its_times_alone():
    text = drawn(0.7, 60)
    table = prices(link__rtt_ms=0.0, target__speed=4.0)
    assert autoregressive(text, table).decode_ms == pytest.approx(59 * 5.0)
    assert table.step_ms == 2.0


def test_fixed_and_adaptive_lengths_end_every_text():
    for seed in range(20):
        text = drawn(0.8, 50, seed)
        for name in SCHEDULES:
            for length in (1, 4, 64, "auto"):
                found = replay([text], prices(), name, length)[0]
                assert found.tokens == 50
                assert found.accepted + found.rounds in (49, 50)


def test_adaptive_lengths_come_near_the_best_fixed_one():
    texts = [drawn(0.85, 300, seed) for seed in range(8)]
    for rtt in (0.0, 20.0, 100.0):
        table = prices(link__rtt_ms=rtt)
        fixed = [sum(one.decode_ms for one in replay(texts, table, "speculative", n)) for n in range(1, 33)]
        auto = sum(one.decode_ms for one in replay(texts, table, "speculative", "auto"))
        assert auto < 1.1 * min(fixed)


def test_the_events_say_what_the_edge_computes_when_it_asks_and_when_it_waits():
    text = Text.of("0111111", budget=7, prompt_tokens=10)
    ask, wait = Asked((Charge("pass", 3),), Charge("trip", 2, 3)), Awaited()
    synchronous = events_of(text, prices(), "speculative", 2)
    assert synchronous[:4] == [Charge("draft", 2, 1), ask, wait, Charge("round")]
    ahead = events_of(text, prices(), "speculative_pipelined", 2)
    assert ahead[:6] == [Charge("draft", 2, 1), ask, *[Charge("draft", 1, 1)] * 3, wait]
    there = events_of(text, prices(), "speculative_colocated", 2)
    work = Charge("draft there", 2, 1), Charge("pass", 3), Charge("round"), Charge("stream")
    assert there[0] == Streamed(work, Charge("answer", 3))


def test_what_a_server_does_for_each_part_of_a_stream_is_charged_for_each():
    text = drawn(0.7, 60)
    free, dear = prices(), prices(stream_ms=0.5)
    assert autoregressive(text, dear).decode_ms == pytest.approx(
        autoregressive(text, free).decode_ms + 59 * 0.5
    )
    parts = colocated(text, free, 3).rounds
    assert colocated(text, dear, 3).decode_ms == pytest.approx(colocated(text, free, 3).decode_ms + parts * 0.5)
    assert synchronous(text, dear, 3) == synchronous(text, free, 3)


def test_models_that_compute_at_once_on_one_machine_slow_each_other_down():
    table = prices(draft__overlap_slowdown=2.0, target__overlap_slowdown=1.25, link__rtt_ms=0.0)
    clock = VirtualClock()
    timeline = Timeline(table, clock)
    request = timeline.take(Asked((Charge("pass", 1),), Charge("trip", 0, 1)))
    timeline.take(Charge("draft", 4, 1))  # 8 ms alone, all of them while the target computes
    assert clock.now_ms == pytest.approx(16.0)
    assert request.due_ms == pytest.approx(20.0 + 16.0 * (1 - 1 / 1.25))
    timeline.take(Charge("draft", 8, 1))  # 16 ms alone; in the 9 ms until the target is done, 4.5 of them
    assert clock.now_ms == pytest.approx(25.0 + 16.0 - 4.5)
    assert timeline.take(Awaited()).computed_ms == pytest.approx(20.0 * 1.25)


def test_drafting_while_nothing_is_verified_is_not_slowed_down():
    text, slow = drawn(0.7, 60), {"draft__overlap_slowdown": 3.0, "target__overlap_slowdown": 3.0}
    for schedule in (synchronous, colocated):
        assert schedule(text, prices(**slow), 3) == schedule(text, prices(), 3)
    assert pipelined(text, prices(**slow), 3).decode_ms > pipelined(text, prices(), 3).decode_ms
