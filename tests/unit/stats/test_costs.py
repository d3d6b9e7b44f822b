"""Bytes, shares of time, and how much of a round trip drafting ahead hides."""

import pytest
from builders import generation
from comparisons import request, row, run
from rich.console import Console

from specbench.render.results import comparison_table
from specbench.results.records import Round
from specbench.stats.comparison import CONTROL, compare
from specbench.stats.round_costs import round_costs

FIRST = Round(tokens=(1,), bytes_up=5000, bytes_down=40, uplink_ms=10.0, downlink_ms=10.0)


def text(*rounds, ends_ms=100.0, **fields):
    """A text whose rounds behind the first take `ends_ms` together."""
    parts = (FIRST, *rounds)
    arrivals = [50.0 + ends_ms * index / len(rounds) for index in range(len(parts))]
    return generation(rounds=parts, arrival_ms=tuple(arrivals), **fields)


def part(tokens=2, drafted=4, **fields):
    return Round(tokens=(3,) * tokens, drafted=drafted, accepted=tokens - 1, **fields)


def test_bytes_are_those_behind_the_first_round_over_its_tokens():
    costs = round_costs(
        [text(part(bytes_up=30, bytes_down=20)), text(part(tokens=3, bytes_up=45, bytes_down=5))]
    )
    assert costs.bytes_up_per_token == 75 / 5
    assert costs.bytes_down_per_token == 25 / 5
    assert costs.bytes_up_per_drafted_token == 75 / 8


def test_a_stream_is_asked_for_with_its_prompt():
    costs = round_costs([text(*[Round(tokens=(3,), bytes_up=0, bytes_down=20)] * 4)])
    assert (costs.bytes_up_per_token, costs.bytes_down_per_token) == (0, 20)
    assert costs.bytes_up_per_drafted_token is None
    assert costs.draft_share is costs.link_share is costs.verify_share is None


def test_shares_are_of_the_time_between_the_first_and_the_last_token():
    timed = part(draft_ms=10.0, uplink_ms=5.0, verify_ms=20.0, downlink_ms=15.0)
    costs = round_costs([text(timed, timed, ends_ms=200.0)])
    assert (costs.draft_share, costs.link_share, costs.verify_share) == pytest.approx((0.1, 0.2, 0.2))


def test_a_stream_waits_for_the_link_where_it_is_asked_for_and_nowhere_else():
    streamed = part(downlink_ms=10.0, verify_ms=1.0, bytes_up=0, streamed=True)
    assert round_costs([text(streamed, streamed, streamed)]).link_share is None
    asked = part(uplink_ms=10.0, downlink_ms=10.0, verify_ms=1.0, bytes_up=8)  # behind its first token
    costs = round_costs([text(asked, streamed, streamed)])
    assert costs.link_share == pytest.approx(0.2)
    assert costs.bytes_up_per_drafted_token is None


def test_a_method_that_drafts_nothing_has_no_shares_of_time():
    costs = round_costs([text(Round(tokens=(3,), verify_ms=9.0, bytes_up=0, bytes_down=20))])
    assert costs.draft_share is costs.link_share is costs.verify_share is None


def pipelined(wait_ms, wasted, **fields):
    values = {"uplink_ms": 10.0, "verify_ms": 20.0, "downlink_ms": 10.0, "bytes_up": 9, **fields}
    return part(wait_ms=wait_ms, wasted_draft_tokens=wasted, **values)


def test_what_stood_is_hidden_and_what_was_dropped_is_not():
    costs = round_costs([text(pipelined(30.0, 0), pipelined(20.0, 5))])
    assert costs.hidden_share == pytest.approx(10 / 80)
    assert costs.wasted_per_round == 2.5


def test_no_more_than_the_round_trip_can_be_hidden():
    assert round_costs([text(pipelined(0.0, 0))]).hidden_share == 1
    assert round_costs([text(pipelined(45.0, 0))]).hidden_share == 0


def test_without_a_link_the_round_trip_is_the_verification():
    alone = pipelined(15.0, 0, uplink_ms=None, downlink_ms=None, bytes_up=None)
    assert round_costs([text(alone)]).hidden_share == pytest.approx(0.25)


def test_a_round_trip_that_was_measured_goes_before_the_links_model():
    costs = round_costs([text(pipelined(30.0, 0, rtt_ms=24.0), ends_ms=200.0)])
    assert costs.link_share == pytest.approx(24 / 200)
    assert costs.hidden_share == pytest.approx(14 / 44)
    real = pipelined(30.0, 0, rtt_ms=24.0, uplink_ms=None, downlink_ms=None)
    assert round_costs([text(real, ends_ms=200.0)]) == costs


def test_a_frame_of_no_bytes_is_not_taken_for_a_stream():
    quiet = part(rtt_ms=20.0, verify_ms=10.0, bytes_up=0)
    assert round_costs([text(quiet, ends_ms=100.0)]).link_share == pytest.approx(0.2)


def test_a_round_trip_that_nobody_saw_counts_nowhere():
    unseen = pipelined(0.0, 0, uplink_ms=None, downlink_ms=None)
    assert round_costs([text(unseen)]).hidden_share is None
    assert round_costs([text(unseen, pipelined(30.0, 0))]).hidden_share == pytest.approx(10 / 40)


def test_a_method_that_waits_hides_nothing_and_wastes_nothing():
    waiting = part(uplink_ms=10.0, verify_ms=20.0, downlink_ms=10.0, wait_ms=40.0, bytes_up=9)
    costs = round_costs([text(waiting)])
    assert costs.hidden_share is costs.wasted_per_round is None


def test_what_nobody_measured_is_absent():
    assert round_costs([request("m", "1", 40.0)]) is None


def shown(*records):
    console = Console(width=100, record=True)
    console.print(comparison_table(compare([run(records)]), details=True))
    return console.export_text()


def test_the_table_has_the_columns_that_are_known():
    ahead = text(pipelined(30.0, 0, draft_ms=4.0, bytes_down=7), prompt_id="1")
    found = shown(request(CONTROL, "1", 40.0), ahead)
    assert "time of rounds" in found
    assert "hidden" in found
    assert "25%" in found
    assert max(map(len, found.splitlines())) <= 100
    waiting = shown(request(CONTROL, "1", 40.0), text(part(draft_ms=5.0, verify_ms=9.0), prompt_id="1"))
    assert "verify" in waiting
    assert "hidden" not in waiting
    assert "bytes of encoded frames" in found
    assert "bytes of encoded frames" not in waiting


def test_without_figures_there_is_no_such_table():
    records = [request(CONTROL, "1", 40.0), request("m", "1", 30.0)]
    assert "time of rounds" not in shown(*records)
    assert row([run(records)]).costs is None
