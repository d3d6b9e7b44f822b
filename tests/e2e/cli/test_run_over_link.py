"""A run over a link: what the table says, what is stored, what is refused before anything is timed."""

import os

import pytest
from stores import stored

from specbench.testing import tiny_llama

CPU = min(os.sched_getaffinity(0))


def test_the_title_names_the_round_trip_of_a_modelled_link_and_every_round_paid_it(
    specbench, profile, tmp_path
):
    link = {"rtt_ms": 6, "jitter_ms": 1, "uplink_mbps": 20, "loss": 0.001}
    done = specbench("run", "speculative", "--profile", profile(link=link))
    assert done.code == 0, done.err
    assert (
        "edge-cloud over a link that is modelled, round trip 6 ms, ±1 ms each way, 20 Mbit/s up, "
        "0.1 % of packets lost"
    ) in done.out
    assert "co-located" not in done.out
    run = stored(tmp_path)
    assert run.manifest.profile["link"]["rtt_ms"] == 6
    rounds = [part for record in run.generations if record.method == "speculative" for part in record.rounds]
    assert all(part.uplink_ms >= 2 and part.downlink_ms >= 2 for part in rounds)


def test_a_link_changes_no_text(specbench, profile):
    methods = ["speculative", "cloud-baseline"]
    rows = specbench("run", *methods, "--profile", profile(link={"rtt_ms": 4}), "--json").json["methods"]
    assert [rows[name]["exact_match"] for name in rows] == [1.0] * 3


def test_a_trace_is_named_with_the_round_trip_that_was_seen_and_its_file_is_remembered(
    specbench, profile, tmp_path
):
    trace = tmp_path / "slow.csv"
    trace.write_text("time_ms,rate_mbps,delay_ms\n0,5,3\n")
    path = profile(link={"trace": str(trace)}, workload={"limit": 1})
    setting = specbench("run", "cloud-optimized-baseline", "--profile", path, "--json").json["setting"]
    assert "ms measured" in setting
    assert f"trace {trace}" in setting
    first = stored(tmp_path).manifest
    trace.write_text("time_ms,rate_mbps,delay_ms\n0,5,4\n")
    specbench("run", "cloud-optimized-baseline", "--profile", path)
    compared = specbench("compare", first.run_id, stored(tmp_path).manifest.run_id)
    assert compared.code == 8
    assert "the link's trace is" in compared.err


def test_a_bad_trace_stops_a_run_before_a_model_is_read(specbench, profile, tmp_path):
    done = specbench("run", "speculative", "--profile", profile(link={"trace": str(tmp_path / "none.csv")}))
    assert done.code == 3
    assert "cannot be read: No such file" in done.err
    assert "loading" not in done.err


@pytest.mark.parametrize(
    ("link", "message"),
    [({"kind": "emulated"}, "set cloud.placement=process"), ({"kind": "real"}, "is the other one's address")],
)
def test_a_link_of_packets_needs_two_ends(specbench, profile, link, message):
    done = specbench("run", "speculative", "--profile", profile(link=link))
    assert done.code == 3
    assert message in done.err


@pytest.mark.slow
def test_a_confined_edge_says_what_was_applied_and_the_cloud_has_the_machine(
    specbench_process, profile, tmp_path
):
    edge = {"cpus": [CPU], "threads": 1, "memory_limit": "2GiB"}
    path = profile(edge=edge, cloud={"placement": "process"}, workload={"limit": 1})
    done = specbench_process("run", "speculative", "--profile", path, is_started=True)
    assert done.code == 0, done.err
    applied = stored(tmp_path).manifest.edge_device
    assert applied["cpus"] == str(CPU)
    assert applied["memory_limit"].startswith(("2GiB, by cgroup", "not applied"))
    assert f"note: edge device: cpus {CPU}; memory_limit {applied['memory_limit']}" in done.out
    assert "co-located: edge and cloud in two processes of one machine, no link" in done.out


def test_an_edge_model_that_does_not_fit_its_limit_is_refused_before_it_is_read(
    specbench_process, profile, tmp_path
):
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4}
    tiny_llama(tmp_path / "large", seed=1, **large)  # 250 MB; torch alone takes 100 or more
    edge = {"model": str(tmp_path / "large"), "memory_limit": "320MiB"}
    done = specbench_process(
        "run", "speculative", "--profile", profile(edge=edge, cloud={"placement": "process"}), is_started=True
    )
    if done.code == 0:
        assert "memory_limit not applied: the machine grants no memory cgroup" in done.out
        pytest.skip("this machine grants no memory cgroup")
    assert done.code == 4, done.err
    assert "error: the edge's models need about 0.25 GB, but edge.memory_limit leaves" in done.err
    assert "loading the edge model" not in done.err
