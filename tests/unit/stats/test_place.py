"""Every table says what lay between edge and cloud: nothing, or a link with its round trip."""

import pytest
from builders import generation, manifest
from comparisons import PROFILE
from comparisons import run as stored

from specbench.results.records import Round, Run
from specbench.stats.comparison import compare
from specbench.stats.topology import place, round_trip_ms

TRIPS = ((4.0, 6.0), (5.0, 7.0), (40.0, 60.0))
UNWIRED = (Round((5,)),)
ROUNDS = (*(Round((5,), uplink_ms=up, downlink_ms=down) for up, down in TRIPS), Round((6,), downlink_ms=3.0))


def run(placement="in_process", rounds=UNWIRED, **link):
    profile = {"cloud": {"placement": placement}} | ({"link": link} if link else {})
    record = generation(rounds=rounds, arrival_ms=tuple(map(float, range(len(rounds)))))
    return Run(manifest(profile=profile), (record,))


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (run(), "co-located: edge and cloud on one machine, no link"),
        (run(rtt_ms=0.0), "co-located: edge and cloud on one machine, no link"),
        (run("process"), "co-located: edge and cloud in two processes of one machine, no link"),
        (run(rtt_ms=20.0), "edge-cloud over a link that is modelled, round trip 20 ms"),
        (
            run("process", rtt_ms=20.0, jitter_ms=2.0, uplink_mbps=5.0, downlink_mbps=50.0, loss=0.01),
            "edge-cloud over a link that is modelled, round trip 20 ms, ±2 ms each way, 5 Mbit/s up, "
            "50 Mbit/s down, 1 % of packets lost",
        ),
        (
            run(trace="drive.csv", rounds=ROUNDS),
            "edge-cloud over a link that is modelled, round trip 12 ms measured, trace drive.csv",
        ),
        (
            run("process", kind="emulated", rtt_ms=20.0, rounds=ROUNDS),
            "edge-cloud over a link that is emulated, round trip 20 ms",
        ),
        (
            run("wss://host:1", rounds=ROUNDS),
            "edge-cloud over a link that is real, round trip 12 ms measured · cloud at wss://host:1",
        ),
        (
            run("ws://host:1", kind="real", rounds=ROUNDS),
            "edge-cloud over a link that is real, round trip 12 ms measured · cloud at ws://host:1",
        ),
        (
            run("ws://host:1", rtt_ms=30.0, rounds=ROUNDS),
            "edge-cloud over a link that is modelled, round trip 30 ms · cloud at ws://host:1",
        ),
    ],
)
def test_the_title_says_what_lay_between(measured, said):
    assert place([measured]) == said


def test_the_title_says_how_tokens_are_chosen_where_that_is_not_greedy():
    decoding = {
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "min_new_tokens": 4,
        "ignore_eos": True,
    }
    setting = compare([stored([generation()], profile={**PROFILE, "decoding": decoding})]).setting
    assert setting.endswith("temperature 0.8 · top-p 0.9 · min_new_tokens 4 · stop tokens ignored")


def test_a_round_trip_that_nobody_saw_is_absent():
    assert round_trip_ms([run()]) is None
