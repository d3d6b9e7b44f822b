"""The meter: joules between two moments, idle power, and counters that cannot be read to the end."""

import pytest
from powered import PoweredProcessor, battery, rapl

from specbench.energy import EnergyMeter, RemoteReading, find_counters


def metered(root, interval_ms=5):
    return EnergyMeter(find_counters(root).counters, interval_ms)


def test_idle_power_and_what_a_stretch_took(tmp_path):
    with PoweredProcessor(tmp_path, 50.0), metered(tmp_path) as meter:
        meter.rest(0.2)
        before = meter.mark()
        meter._stop.wait(0.2)
        use = meter.since(before)
    assert meter.idle_watts["package-0"] == pytest.approx(50, rel=0.2)
    assert use.joules["package-0"] / use.seconds == pytest.approx(50, rel=0.2)
    assert use.idle_watts == meter.idle_watts


def test_a_register_that_wraps_around_within_a_stretch_is_read_in_time(tmp_path):
    zone = rapl(tmp_path, uj=0, most=1_000_000)
    with metered(tmp_path, interval_ms=10_000) as meter:
        before = meter.mark()
        for micros in (900_000, 100_000, 900_000, 100_000):
            (zone / "energy_uj").write_text(f"{micros}\n")
            meter.mark()  # as the thread does
        assert meter.since(before).joules == {"package-0": pytest.approx(2.1)}


def test_a_battery_that_is_plugged_in_is_given_up_with_the_reason(tmp_path):
    supply = battery(tmp_path, power_now=9_000_000)
    rapl(tmp_path)
    with metered(tmp_path, interval_ms=10_000) as meter:
        before = meter.mark()
        (supply / "status").write_text("Charging\n")
        use = meter.since(before)
        assert set(use.joules) == {"package-0"}
        assert "Charging" in meter.lost[0]
        meter.mark()
    assert len(meter.lost) == 1


def test_without_counters_nothing_is_waited_for():
    with EnergyMeter((), 10) as meter:
        meter.rest(60.0)
        assert meter.since(meter.mark()).joules == {}


def reading(at_ms, joules, meter=1, edges=1):
    return RemoteReading(meter, at_ms, {"cloud package-0": joules}, edges)


def stretches(*readings):
    """A meter that has no counters but those of another machine, which says this in turn."""
    answers = iter(readings)
    return EnergyMeter((), 10_000, lambda: next(answers))


def test_counters_of_another_machine_are_read_by_its_own_clock():
    with stretches(reading(0, 5.0), reading(70_000, 100.0), reading(72_000, 140.0)) as meter:
        use = meter.since(meter.mark())
    assert use.joules == {"cloud package-0": 40.0}
    assert use.seconds_of("cloud package-0") == 2.0
    assert use.seconds < 1.0


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (reading(9, 9.0, meter=2), "started anew"),
        (reading(9, 9.0, edges=2), "other edges"),
        (reading(1, 9.0), "clock"),
        (reading(0, 9.0), "clock"),
        (reading(9, 1.5), "counter of the server went back"),
        (reading(1 + 2000, 2.0), "counters stood still"),
        (None, None),
    ],
)
def test_what_another_machine_says_wrongly_or_of_other_work_is_left_out(tmp_path, after, reason):
    rapl(tmp_path)
    answers = iter([reading(0, 1.0), reading(1, 2.0), after])
    with EnergyMeter(find_counters(tmp_path).counters, 10_000, lambda: next(answers)) as meter:
        use = meter.since(meter.mark())
    assert set(use.joules) == {"package-0"}
    assert [reason in line for line in meter.lost] == ([True] if reason else [])


def test_an_edge_that_left_before_a_stretch_takes_nothing_from_it():
    with stretches(reading(0, 0.0), reading(1, 5.0, edges=2), reading(3, 9.0)) as meter:
        assert meter.since(meter.mark()).joules == {"cloud package-0": 4.0}
    assert meter.lost == []


def test_idle_power_is_unknown_where_the_clock_elsewhere_stands_still():
    with stretches(reading(7, 0.0), reading(7, 1.0), reading(7, 2.0)) as meter:
        meter.rest(0.0)
    assert meter.idle_watts == {}
    assert "clock stood still" in meter.lost[0]


def test_counters_elsewhere_that_stand_still_are_asked_no_more():
    with stretches(reading(0, 5.0), reading(0, 5.0), reading(3000, 5.0)) as meter:
        meter.rest(0.0)
        assert meter.since(meter.mark()).joules == {}
    assert "stood still" in meter.lost[0]
