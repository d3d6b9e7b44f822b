"""Joules and money of a million tokens, from records: sums over sums, absent where unknown."""

import pytest
from builders import generation
from comparisons import PROFILE, pair, request, row, run
from rich.console import Console

from specbench.errors import ExitCode, SpecbenchError
from specbench.profile.loading import load_profile, with_changes
from specbench.profile.price_list import PriceList
from specbench.render.results import comparison_table
from specbench.results.records import EnergyCounter, EnergyUse, Round
from specbench.stats.comparison import CONTROL, compare
from specbench.stats.energy_use import energy_use
from specbench.stats.money import money

PACKAGE = EnergyCounter("package-0", "RAPL", "processor", ("edge", "cloud"))
DRAM = EnergyCounter("package-0 dram", "RAPL", "memory", ("edge", "cloud"))
GPU = EnergyCounter("gpu 0", "NVML", "gpu", ("cloud",))
BATTERY = EnergyCounter("BAT0", "battery", "machine", ("edge", "cloud"))


def used(tokens, seconds, idle=None, **joules):
    names = {"package": "package-0", "dram": "package-0 dram", "gpu": "gpu 0", "battery": "BAT0"}
    found = {names[name]: value for name, value in joules.items()}
    return generation(tokens=tuple(range(tokens)), energy=EnergyUse(seconds, found, idle or {}))


def test_energy_is_all_joules_over_all_tokens_and_idle_power_is_taken_off():
    idle = {"package-0": 2.0, "package-0 dram": 0.5}
    records = [used(10, 1.0, idle, package=9.0, dram=1.0), used(30, 3.0, idle, package=28.0, dram=2.0)]
    (joint,) = energy_use(records, [PACKAGE, DRAM])
    assert joint.joules_per_token == 40 / 40
    assert joint.above_idle_joules_per_token == pytest.approx((40 - 2.5 * 4) / 40)
    assert joint.idle_watts == pytest.approx(2.5)


def test_idle_power_is_absent_where_no_time_passed():
    (found,) = energy_use([used(10, 0.0, {"package-0": 2.0}, package=5.0)], [PACKAGE])
    assert (found.joules_per_token, found.above_idle_joules_per_token, found.idle_watts) == (0.5, None, None)


def test_a_gpu_is_the_clouds_and_the_processor_that_both_use_is_not_split():
    found = energy_use([used(10, 1.0, package=5.0, gpu=20.0)], [PACKAGE, GPU])
    assert [(each.roles, each.joules_per_token) for each in found] == [
        (("edge", "cloud"), 0.5),
        (("cloud",), 2.0),
    ]
    assert found[0].above_idle_joules_per_token is None


def test_a_counter_of_the_whole_machine_is_not_added_to_its_parts():
    (found,) = energy_use([used(10, 1.0, package=5.0, battery=8.0)], [PACKAGE, BATTERY])
    assert (found.counters, found.joules_per_token) == (("BAT0",), 0.8)


def test_answers_that_a_counter_did_not_see_are_left_out_with_their_tokens():
    assert energy_use([used(10, 1.0, package=5.0), generation()], [PACKAGE])[0].joules_per_token == 0.5
    assert energy_use([generation()], [PACKAGE]) == ()


PRICES = PriceList(edge_per_hour=0.36, cloud_per_hour=3.6, network_per_gb=1.0)


def told(ms=36_000.0, verify_ms=9_000.0, tokens=100, name="1", **fields):
    parts = (
        Round(tokens=(1,), verify_ms=0.0, bytes_up=400_000, bytes_down=100_000),
        Round(tokens=(2,) * (tokens - 1), verify_ms=verify_ms),
    )
    return generation(name, rounds=parts, arrival_ms=(1.0, ms), lossless=True, **fields)


def test_a_million_tokens_cost_what_their_time_and_bytes_do():
    found = money([told(), told(name="2")], PRICES)
    # 36 s of both for 100 tokens, and half a megabyte; the cloud computes for a quarter of that.
    assert found.reserved == pytest.approx((0.0036 + 0.036 + 0.0005) / 100 * 1e6)
    assert found.shared == pytest.approx((0.0036 + 0.009 + 0.0005) / 100 * 1e6)
    assert found.reserved_interval is None
    assert found.unpriced == ()


def test_the_cloud_is_shared_only_where_its_computing_was_measured():
    assert money([told(), told(verify_ms=None)], PRICES).shared is None


def test_what_the_cloud_has_no_part_in_does_not_pay_for_it():
    alone = generation(tokens=(1, 2), arrival_ms=(1.0, 36_000.0), lossless=None)
    assert money([alone], PRICES).reserved == pytest.approx(0.0036 / 2 * 1e6)


def test_what_has_no_price_is_named_and_without_any_there_is_no_cost():
    assert money([told()], PriceList(cloud_per_hour=1.0)).unpriced == ("edge", "network")
    assert money([told()], PriceList(api_per_million_tokens=1.0)) is None


def test_a_network_whose_bytes_were_not_counted_is_named_as_left_out():
    in_process = generation(rounds=(Round(tokens=(1, 2), verify_ms=1.0),), lossless=True)
    assert money([in_process], PRICES).unpriced == ("network",)
    assert money([in_process], PriceList(cloud_per_hour=1.0)).unpriced == ("edge", "network")


def test_costs_have_intervals_from_twelve_prompts_on_that_hold_them():
    few = [told(ms=30_000.0 + 1000 * n, name=str(n)) for n in range(11)]
    many = [*few, told(name="11")]
    assert money(few, PRICES).reserved_interval is None
    found = money(many, PRICES)
    low, high = found.reserved_interval
    assert low < found.reserved < high
    assert high / low < 1.3


def test_a_comparison_shows_money_and_energy_of_each_method():
    profile = {**PROFILE, "prices": PRICES.model_dump()}
    energy = EnergyUse(1.0, {"package-0": 18.0}, {"package-0": 4.5})
    records = [request(name, "1", 40.0, energy=energy) for name in (CONTROL, "m")]
    made = run(records, profile=profile, energy_counters=(PACKAGE,), energy_absent=("NVML: no driver",))
    found = row([made])
    assert found.energy[0].joules_per_token == 2.0
    assert found.money.currency == "USD"
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(comparison_table(compare([made]), details=True))
    text = console.export_text()
    assert "USD for a million tokens" in text
    assert "1.5" in text  # above idle
    assert "NVML: no driver" in text


def test_other_prices_are_no_reason_to_refuse_a_comparison():
    left = run(pair(3, 1.2), "r1", profile={**PROFILE, "prices": PRICES.model_dump()})
    right = run(pair(3, 1.2), "r2", profile=PROFILE)
    assert compare([left, right]).unfair == ()


def test_a_price_below_nothing_is_refused():
    with pytest.raises(SpecbenchError, match=r"prices\.cloud_per_hour"):
        with_changes(load_profile("default"), ["prices.cloud_per_hour=-1"])


@pytest.mark.parametrize(
    ("prices", "reason"),
    [({"edge_per_hour": "cheap"}, "edge_per_hour: 'cheap' is"), ({"beer": 2}, "beer"), ([1], "refus")],
)
def test_prices_of_a_stored_run_that_were_edited_to_nonsense_are_one_error_that_names_the_run(prices, reason):
    made = run(pair(3, 1.2), "r7", profile={**PROFILE, "prices": prices})
    with pytest.raises(SpecbenchError, match=f"run r7: prices: .*{reason}") as found:
        compare([made])
    assert found.value.exit_code == ExitCode.STORE
