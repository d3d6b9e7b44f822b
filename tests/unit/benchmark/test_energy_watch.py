"""A run with counters of energy, and one without: what is kept of each answer and what a reader is told."""

from types import SimpleNamespace

import pytest
from builders import manifest
from powered import Nvml, PoweredProcessor, battery, rapl
from stores import stored

from specbench.benchmark import energy_watch
from specbench.cloud import cloud_of
from specbench.cloud.transport.answers import Metered
from specbench.cloud.transport.fields import ProtocolError
from specbench.cloud.transport.protocol import decode_down, encode
from specbench.energy import Found, find_counters
from specbench.energy.nvml import NvmlCounter
from specbench.errors import CloudLostError
from specbench.profile import load_profile
from specbench.results.records import EnergyCounter
from specbench.roles import powered

RUN = ("run", "speculative", "--limit", "2", "--set", "workload.max_new_tokens=6")


@pytest.fixture
def root(monkeypatch, tmp_path):
    """The place of the kernel's files, as a run sees it."""
    monkeypatch.setattr(energy_watch, "find_counters", lambda root: find_counters(tmp_path / "root"))
    monkeypatch.setattr(energy_watch, "IDLE_S", 0.2)
    return tmp_path / "root"


def test_a_run_tells_joint_energy_of_the_roles_that_share_a_counter(specbench, profile, tmp_path, root):
    with PoweredProcessor(root, 40.0):
        done = specbench(*RUN, "--profile", profile(), "--json")
    assert done.code == 0
    (joint,) = done.json["methods"]["speculative"]["energy"]
    assert joint["roles"] == ["edge", "cloud"]
    assert joint["counters"] == ["package-0"]
    assert joint["joules_per_token"] > 0
    assert joint["idle_watts"] == pytest.approx(40, rel=0.25)
    # What takes 40 W whatever it does takes nothing above idle.
    assert abs(joint["above_idle_joules_per_token"]) < 0.5 * joint["joules_per_token"]
    record = stored(tmp_path).generations[0]
    assert record.energy.joules["package-0"] / record.energy.seconds == pytest.approx(40, rel=0.5)
    shown = specbench("compare", "latest", "--details").out
    assert "above idle" in shown
    assert "edge and cloud" in shown
    assert "joint" in shown
    assert "Energy and money" in specbench("report", "latest", "--format", "md").out


def test_a_run_without_counters_says_why_and_shows_no_zero(specbench, profile, tmp_path, root):
    battery(root, status="Full", power_now=1)
    done = specbench(*RUN, "--profile", profile())
    assert done.code == 0
    run = stored(tmp_path)
    assert all(record.energy is None for record in run.generations)
    shown = specbench("compare", "latest", "--details")
    assert "its status is Full" in shown.out
    assert "no counter of energy" in shown.out
    assert "J a token" not in shown.out
    assert specbench("compare", "latest", "--json").json["methods"]["speculative"]["energy"] == []


def watch_of(root, *overrides, metered=None):
    """The watch of a run that loads both models, on a machine whose files lie below `root`.

    Args:
        metered: answers for the cloud.
    """
    profile = load_profile("default", overrides)
    cloud = SimpleNamespace(metered=metered) if metered else cloud_of(profile)
    prepared = SimpleNamespace(roles=("edge", "cloud"), profile=profile, cloud=cloud, factory=lambda role: role)
    return energy_watch.EnergyWatch(prepared, root)


def test_with_a_server_of_another_kind_counters_are_the_edges_and_the_clouds_energy_is_unknown(tmp_path):
    rapl(tmp_path)
    found = watch_of(tmp_path, "cloud.backend=openai", "cloud.placement=http://there:1").noted(manifest())
    assert [counter.roles for counter in found.energy_counters] == [("edge",)]
    assert found.energy_absent == (energy_watch.ELSEWHERE,)


def metered_at(at, joules=None, roles=("cloud",)):
    there = (EnergyCounter("package-0", "RAPL", "processor", roles),)
    return Metered(1, 7, "ff", 1000 * at, 1, there, {"package-0": at if joules is None else joules}, ())


def test_what_a_server_calls_the_edges_energy_is_the_clouds(tmp_path):
    told = metered_at(0, roles=("edge",))
    watch = watch_of(tmp_path, "cloud.placement=ws://there:1", metered=lambda: told)
    assert [(each.name, each.roles) for each in watch.told] == [("cloud package-0", ("cloud",))]


@pytest.mark.parametrize("joules", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_joules_that_are_no_amount_are_no_frame(joules):
    with pytest.raises(ProtocolError):
        decode_down(encode(metered_at(0, joules)))


def test_a_cloud_that_is_lost_for_good_leaves_the_edges_energy_known(tmp_path, monkeypatch):
    answers = iter([metered_at(at) for at in range(3)])  # when found, when reading begins, before the answer

    def metered():
        try:
            return next(answers)
        except StopIteration:
            raise CloudLostError("gone") from None

    rapl(tmp_path)
    watch = watch_of(tmp_path, "cloud.placement=ws://there:1", metered=metered)
    monkeypatch.setattr(energy_watch, "IDLE_S", 0.0)
    monkeypatch.setattr(watch, "rest", lambda seconds: None)
    with watch:
        _, use = watch.during(lambda: None)
    assert [counter.name for counter in watch.told] == ["package-0", "cloud package-0"]
    assert set(use.joules) == {"package-0"}


def test_a_gpu_counts_for_the_roles_whose_models_lie_on_it_and_not_at_all_without_any(tmp_path, monkeypatch):
    places = {"edge": [], "cloud": ["5b2c"]}
    monkeypatch.setattr(powered, "gpus", places.get)
    gpus = [NvmlCounter(Nvml([0]), index, index, uuid) for index, uuid in enumerate(("GPU-5b2c", "GPU-77aa"))]
    monkeypatch.setattr(energy_watch, "find_counters", lambda root: Found(tuple(gpus)))
    (told,) = watch_of(tmp_path).told
    assert (told.name, told.roles) == ("gpu 0", ("cloud",))


def test_a_refused_counter_is_kept_with_the_way_to_allow_it_and_the_screen_says_nothing(
    tmp_path, monkeypatch, logged
):
    reason = "RAPL: no permission to read the counters of the processor; allow it: sudo chmod"
    monkeypatch.setattr(energy_watch, "find_counters", lambda root: Found(absent=(reason,)))
    with watch_of(tmp_path) as watch:
        watch.during(lambda: None)
        watch.during(lambda: None)
    assert logged.text == ""
    assert watch.noted(manifest()).energy_absent == (reason, energy_watch.NO_COUNTER)
