"""The modelled link as arithmetic: what it does to order, time and rate; traces; what is refused."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbench.cloud.link.link_trace import Schedule, read_trace
from specbench.cloud.link.modelled import PACKET_BYTES, RETRANSMISSION_MS, Link, Pipe
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import LinkSpec, load_profile
from specbench.profile.loading import validated

EXACT = {"rel": 1e-9, "abs": 1e-6}
rates = st.none() | st.floats(0.01, 1000)
sizes = st.integers(1, 300_000)
messages = st.lists(st.tuples(st.floats(0, 500), sizes), min_size=1, max_size=40)


@st.composite
def specs(draw):
    rtt_ms = draw(st.floats(0, 300))
    return LinkSpec(
        rtt_ms=rtt_ms,
        jitter_ms=draw(st.floats(0, rtt_ms / 2)),
        uplink_mbps=draw(rates),
        downlink_mbps=draw(rates),
        loss=draw(st.sampled_from([0.0, 0.1, 0.4])),
    )


def sent(gaps_and_sizes):
    """Messages at rising times, as pairs of time and size."""
    now_ms, found = 0.0, []
    for gap_ms, size in gaps_and_sizes:
        now_ms += gap_ms
        found.append((now_ms, size))
    return found


def uplink(seed=0, **spec):
    link = Link(LinkSpec(**spec))
    link.begin(seed, 0.0)
    return link.uplink


@given(specs(), messages, st.integers(0, 5))
def test_no_message_overtakes_another_or_arrives_before_it_was_sent(spec, gaps, seed):
    link = Link(spec)
    link.begin(seed, 0.0)
    for pipe in (link.uplink, link.downlink):
        arrivals = [pipe.deliver_at_ms(now_ms, size) for now_ms, size in sent(gaps)]
        assert all(earlier <= later for earlier, later in pairwise(arrivals))
        assert all(arrival >= now_ms for arrival, (now_ms, _) in zip(arrivals, sent(gaps), strict=True))


@given(st.floats(0, 300), st.floats(0.01, 1000), messages)
def test_without_jitter_and_loss_a_message_waits_its_turn_then_its_bytes_then_half_the_round_trip(
    rtt_ms, mbps, gaps
):
    pipe = uplink(rtt_ms=rtt_ms, uplink_mbps=mbps)
    free_ms = 0.0
    for now_ms, size in sent(gaps):
        free_ms = max(free_ms, now_ms) + size * 8 / (mbps * 1000)
        assert pipe.deliver_at_ms(now_ms, size) == pytest.approx(free_ms + rtt_ms / 2, **EXACT)


@given(st.floats(0.01, 1000), st.lists(sizes, min_size=1, max_size=30), st.floats(0, 100))
def test_messages_sent_at_once_take_together_what_the_rate_says(mbps, burst, rtt_ms):
    pipe = uplink(rtt_ms=rtt_ms, uplink_mbps=mbps)
    arrivals = [pipe.deliver_at_ms(0.0, size) for size in burst]
    assert arrivals[-1] - rtt_ms / 2 == pytest.approx(sum(burst) * 8 / (mbps * 1000), **EXACT)


@given(rates, rates, sizes)
def test_uplink_and_downlink_are_apart(up, down, size):
    link = Link(LinkSpec(rtt_ms=10, uplink_mbps=up, downlink_mbps=down))
    link.uplink.deliver_at_ms(0.0, size)
    assert link.downlink.deliver_at_ms(0.0, size) == pytest.approx(
        5 + (size * 8 / (down * 1000) if down else 0)
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_round_trips_is_the_profiles_with_jitter_too(seed):
    link = Link(LinkSpec(rtt_ms=40, jitter_ms=10))
    link.begin(seed, 0.0)
    trips = []
    for start_ms in range(0, 2_000_000, 1000):
        there_ms = link.uplink.deliver_at_ms(start_ms, 100)
        trips.append(link.downlink.deliver_at_ms(there_ms, 100) - start_ms)
    # Two uniform draws of ±10 ms: standard deviation 8.2 ms, of the mean of 2,000 0.18 ms.
    assert sum(trips) / len(trips) == pytest.approx(40, abs=5 * 0.18)
    assert min(trips) >= 20
    assert max(trips) <= 60
    assert max(trips) - min(trips) > 30


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.3])
def test_so_many_packets_are_lost_as_the_profile_says_and_each_costs_a_timeout(loss):
    pipe = uplink(rtt_ms=20, loss=loss)
    timeout_ms = 20 + RETRANSMISSION_MS
    late = [pipe.deliver_at_ms(at, 100) - at - 10 for at in (index * 1e6 for index in range(20_000))]
    share = sum(wait > 1 for wait in late) / len(late)
    assert share == pytest.approx(loss, abs=5 * math.sqrt(loss / 20_000))
    again = sum(wait > timeout_ms + 1 for wait in late) / sum(wait > 1 for wait in late)
    assert again == pytest.approx(loss, abs=5 * math.sqrt(1 / (20_000 * loss)))
    steps = {0, *(round(timeout_ms * (2**times - 1)) for times in range(1, 30))}
    assert {round(wait) for wait in late} <= steps


def test_a_long_message_is_many_packets_to_lose():
    pipe = uplink(rtt_ms=20, loss=0.02)
    late = [pipe.deliver_at_ms(index * 1e6, 100 * PACKET_BYTES) - index * 1e6 > 11 for index in range(2000)]
    assert sum(late) / 2000 == pytest.approx(1 - 0.98**100, abs=0.05)


@given(specs(), messages, st.integers(0, 5))
def test_the_same_prompt_meets_the_same_link_whenever_it_begins(spec, gaps, seed):
    link = Link(spec)
    runs = []
    for begin_ms in (0.0, 1_000.0):
        link.begin(seed, begin_ms)
        runs.append([link.uplink.deliver_at_ms(begin_ms + now, size) - begin_ms for now, size in sent(gaps)])
    assert runs[0] == pytest.approx(runs[1], abs=1e-6)


def test_another_prompt_meets_other_jitter_both_ways_and_another_place_of_the_trace():
    for spec in (LinkSpec(rtt_ms=40, jitter_ms=10), LinkSpec(trace="builtin")):
        link = Link(spec)
        first = {"up": set(), "down": set()}
        for seed in range(20):
            link.begin(seed, 0.0)
            first["up"].add(link.uplink.deliver_at_ms(0.0, 100))
            first["down"].add(link.downlink.deliver_at_ms(0.0, 100))
        assert min(map(len, first.values())) > 5


@pytest.fixture
def trace(tmp_path):
    def write(text):
        path = tmp_path / "trace.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


HEAD = "time_ms,rate_mbps,delay_ms\n"


def test_a_trace_changes_rate_and_delay_while_a_message_is_on_its_way_in(trace):
    # 1 Mbit/s is 1 kbit a millisecond: 100 ms of it, an outage of 50 ms, then ten times as much for 50 ms.
    schedule = read_trace(trace(HEAD + "0,1,5\n100,0,9\n150,10,20\n"))
    assert schedule.length_ms == 200

    def arrival(now_ms, bits):
        return Pipe(schedule, 0, 0, "", 0.0).deliver_at_ms(now_ms, bits // 8)

    assert arrival(0, 40_000) == pytest.approx(40 + 5)
    assert arrival(90, 40_000) == pytest.approx(150 + 3 + 20), "10 kbit, nothing, 30 kbit"
    assert arrival(120, 10_000) == pytest.approx(150 + 1 + 20)
    assert arrival(210, 40_000) == pytest.approx(250 + 5), "the trace begins anew after 200 ms"


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0.001, 100)), min_size=1, max_size=20), sizes)
def test_any_trace_that_ever_moves_delivers_everything(rows, size):
    starts = tuple(float(index) * 7.3 for index in range(len(rows)))
    values = tuple(rate if rate > 1 else 0.0 for _, rate in rows)
    if not any(values):
        return
    schedule = Schedule(starts, values, tuple(delay for delay, _ in rows), len(rows) * 7.3)
    pipe = Pipe(schedule, 0, 0, "", 0.0)
    arrivals = [pipe.deliver_at_ms(now_ms, size) for now_ms in (0.0, 3.0, 1e4, 1e7)]
    assert arrivals == sorted(arrivals)
    assert all(math.isfinite(arrival) for arrival in arrivals)


def test_the_shipped_trace_is_read():
    schedule = read_trace("builtin")
    assert 20 <= schedule.rtt_ms <= 150
    assert 0.0 in schedule.rates_mbps, "it has an outage"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line is not time_ms,rate_mbps,delay_ms"),
        ("time,rate,delay\n0,1,1\n", "first line is not"),
        (HEAD, "has no rows"),
        (HEAD + "0,1\n", "line 2: 2 fields, not 3"),
        (HEAD + "0,fast,1\n", "line 2: rate_mbps is 'fast', not a number"),
        (HEAD + "0,nan,1\n", "line 2: rate_mbps is 'nan', not a number"),
        (HEAD + "0,inf,1\n", "line 2: rate_mbps is 'inf', not a number"),
        (HEAD + "0,1,-1\n", "line 2: delay_ms is '-1', not a number"),
        (HEAD + "5,1,1\n", "line 2: the first time is 5, and must be 0"),
        (HEAD + "0,1,1\n\n5,1,1\n5,2,2\n", "line 5: time 5 does not follow 5"),
        (HEAD + "0,0,1\n1,0,1\n", "every rate is 0"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (HEAD + '0,"1' + "x" * 200_000 + '",1\n', "is no CSV file"),
    ],
)
def test_a_bad_trace_gets_one_clear_error(trace, text, message):
    with pytest.raises(SpecbenchError, match=message) as refused:
        read_trace(trace(text))
    assert refused.value.exit_code == ExitCode.PROFILE
    assert "trace is a CSV file" in refused.value.hint


def test_a_trace_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecbenchError, match=r"trace .*gone\.csv cannot be read: No such file"):
        read_trace(str(tmp_path / "gone.csv"))


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ({"rtt_ms": -1}, "rtt_ms"),
        ({"loss": 1.0}, "loss"),
        ({"uplink_mbps": 0}, "uplink_mbps"),
        ({"rtt_ms": 10, "jitter_ms": 6}, "no message arrives before it was sent"),
        ({"trace": "builtin", "rtt_ms": 10}, "a trace says delay and rate"),
        ({"kind": "emulated", "trace": "builtin"}, "only a modelled link plays a trace"),
        ({"kind": "real", "rtt_ms": 5}, "a real link is measured, not set"),
        ({"kind": "imagined"}, "'imagined' is not one of modelled, emulated, real"),
    ],
)
def test_a_link_that_contradicts_itself_is_refused(link, message):
    with pytest.raises(SpecbenchError, match=message):
        validated(LinkSpec, link, "link")


def test_the_default_profile_has_no_link_and_set_makes_one():
    assert load_profile("default").link.is_empty
    link = load_profile("default", ["link.rtt_ms=20", "link.loss=0.01"]).link
    assert (link.rtt_ms, link.loss, link.is_empty) == (20, 0.01, False)
