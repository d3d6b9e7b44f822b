"""Counters of energy: found where the kernel shows them, right behind a wrap-around, else absent, and why."""

import builtins
import os
import sys

import pytest
from powered import Nvml, battery, ina3221, rapl, write

from specbench.energy import counter, find_counters, nvml
from specbench.energy import rapl as rapl_reader


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [0.0]
    monkeypatch.setattr(counter, "now_ms", lambda: 1000 * now[0])
    return now


def the_counter(root):
    (only,) = find_counters(root).counters
    return only


def test_a_machine_that_shows_nothing_has_no_counter(tmp_path):
    assert find_counters(tmp_path).counters == ()


def test_a_package_counts_from_when_it_was_found(tmp_path):
    zone = rapl(tmp_path, uj=5_000_000)
    found = the_counter(tmp_path)
    assert (found.name, found.source, found.covers) == ("package-0", "RAPL", "processor")
    assert found.joules() == 0
    (zone / "energy_uj").write_text("7500000\n")
    assert found.joules() == 2.5


def test_a_register_may_wrap_around_between_any_two_readings(tmp_path):
    zone = rapl(tmp_path, uj=9_000_000, most=10_000_000)
    found = the_counter(tmp_path)
    for micros in (500_000, 9_500_000, 1_000_000):  # 1.5 J, 9 J and 1.5 J more
        (zone / "energy_uj").write_text(f"{micros}\n")
        total = found.joules()
    assert total == pytest.approx(12.0)


def test_nothing_is_counted_twice(tmp_path):
    rapl(tmp_path)
    rapl(tmp_path, "intel-rapl:0:0", "core")
    rapl(tmp_path, "intel-rapl:0:1", "dram")
    rapl(tmp_path, "intel-rapl:1", "psys")
    rapl(tmp_path, "intel-rapl-mmio:0", "package-0")
    names = {(each.name, each.covers) for each in find_counters(tmp_path).counters}
    assert names == {("package-0", "processor"), ("package-0 dram", "memory")}


def test_a_counter_that_only_root_may_read_is_absent_with_a_hint(tmp_path, monkeypatch):
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        rapl(tmp_path, zone)
    if os.geteuid():
        for file in tmp_path.rglob("energy_uj"):
            file.chmod(0)
    else:  # root may read everything

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(rapl_reader, "number", refuse)
    found = find_counters(tmp_path)
    assert found.counters == ()
    (reason,) = found.absent
    assert "no permission" in reason
    assert "sudo chmod a+r" in reason


def test_a_gpu_counts_millijoules_since_it_was_found(tmp_path):
    write(tmp_path, "proc/driver/nvidia", version="NVRM")
    (found,) = nvml.find(tmp_path, Nvml([149_709_000, 149_709_000, 149_712_500])).counters
    assert (found.source, found.covers, found.uuid) == ("NVML", "gpu", "GPU-5b2c")
    assert [found.joules(), found.joules()] == [0.0, 3.5]


def test_a_gpu_without_such_a_counter_is_absent_with_the_drivers_reason(tmp_path):
    write(tmp_path, "proc/driver/nvidia", version="NVRM")
    found = nvml.find(tmp_path, Nvml([None]))
    assert found.counters == ()
    assert "Not Supported" in found.absent[0]


def test_the_missing_package_is_named_where_there_is_a_driver(tmp_path, monkeypatch):
    write(tmp_path, "proc/driver/nvidia", version="NVRM")
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "specbench[gpu]" in nvml.find(tmp_path).absent[0]


def test_of_a_jetson_the_rail_that_feeds_the_others_is_the_whole_machine(tmp_path, clock):
    ina3221(tmp_path, VDD_IN=(5000, 2000), VDD_CPU_GPU_CV=(5000, 900), VDD_SOC=(5000, 300))
    found = the_counter(tmp_path)
    assert (found.name, found.covers) == ("VDD_IN", "machine")
    found.joules()
    clock[0] = 3.0
    assert found.joules() == pytest.approx(30.0)


def test_of_a_jetson_without_such_a_rail_each_one_is_counted(tmp_path):
    ina3221(tmp_path, GPU=(19_000, 100), CPU=(19_000, 200))
    write(tmp_path, "sys/class/hwmon/hwmon0", name="coretemp", in1_input=5000, curr1_input=1000)
    assert {each.name for each in find_counters(tmp_path).counters} == {"GPU", "CPU"}


@pytest.mark.parametrize(
    "files",
    [
        {"power_now": 12_000_000},
        {"power_now": -12_000_000},
        {"current_now": 1_000_000, "voltage_now": 12_000_000},
    ],
)
def test_a_battery_that_feeds_the_machine_is_integrated(tmp_path, clock, files):
    supply = battery(tmp_path, **files)
    found = the_counter(tmp_path)
    assert found.covers == "machine"
    found.joules()
    clock[0] = 2.0
    assert found.joules() == pytest.approx(24.0)
    for name in files:  # power falls to nothing: a straight line between two readings
        (supply / name).write_text("0\n")
    clock[0] = 3.0
    assert found.joules() == pytest.approx(30.0)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_on_mains_says_nothing_of_the_machine(tmp_path, status):
    battery(tmp_path, status=status, power_now=1)
    found = find_counters(tmp_path)
    assert found.counters == ()
    assert status in found.absent[0]


def test_the_battery_of_a_mouse_is_none_of_the_machine(tmp_path):
    battery(tmp_path, "hidpp_battery_0", scope="Device", power_now=1)
    assert find_counters(tmp_path) == counter.Found()
