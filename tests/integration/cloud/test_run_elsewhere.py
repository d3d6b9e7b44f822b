"""`run` and `check-dtype` with a cloud in another process, or behind an address."""

import json
import os
import signal
import subprocess
import sys

import pytest
from builders import LIAR
from listening import certificate
from warm import WarmPopen

from specbench.forecast import cost_measurement
from specbench.profile.cost_table import read_costs

BOTH = ("speculative", "cloud_baseline")


@pytest.fixture
def serve(profile, tmp_path):
    """Start `specbench serve`; yields a function that returns the process and its address."""
    running = []

    def start(*words, name="served", **parts):
        path = profile(name=name, **parts)
        process = WarmPopen(
            [sys.executable, "-m", "specbench", "serve", "--profile", str(path), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "served.log").open("ab"),
            text=True,
        )
        running.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in running:
        process.kill()
        process.wait()


def generations(tmp_path):
    run = max((tmp_path / "runs").iterdir())
    return [json.loads(line) for line in (run / "generations.jsonl").read_text().splitlines()]


def texts(tmp_path):
    return {(g["method"], g["prompt_id"], g["turn"]): g["text"] for g in generations(tmp_path)}


def test_a_run_in_two_processes_commits_what_one_process_commits(specbench, profile, tmp_path):
    here = specbench("run", *BOTH, "--profile", profile())
    assert here.code == 0, here.err
    expected = texts(tmp_path)
    there = specbench("run", *BOTH, "--profile", profile(cloud={"placement": "process"}))
    assert there.code == 0, there.err
    assert "two processes of one machine" in there.out
    manifest = json.loads((max((tmp_path / "runs").iterdir()) / "manifest.json").read_text())
    assert set(manifest["ceilings"]) == {"edge", "cloud"}  # the server has measured its own memory
    assert manifest["ceilings"]["cloud"]["bytes_per_second"] > 0
    asked = len({(g["prompt_id"], g["repeat"]) for g in generations(tmp_path)})
    assert [len(found["readings"]) for found in manifest["ceilings"].values()] == [asked, asked]
    for name, row in specbench("compare", "--json").json["methods"].items():
        assert row["share_of_ceiling"] > 0, name
    assert texts(tmp_path) == expected
    for generation in generations(tmp_path):
        for part in generation["rounds"]:
            assert part["bytes_down"] > 0
            assert part["wait_ms"] >= 0
    speculated = [g for g in generations(tmp_path) if g["method"] == "speculative"]
    assert all(part["rtt_ms"] >= 0 and part["bytes_up"] > 0 for g in speculated for part in g["rounds"])


def test_a_run_against_an_address_and_its_token(specbench, profile, serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("geheim-123\n")
    _, address = serve("--port", 0, "--token-file", token)
    cloud = {"placement": address, "token_file": str(token)}
    done = specbench("run", *BOTH, "--profile", profile(cloud=cloud))
    assert done.code == 0, done.err
    assert f"cloud at {address}" in done.out
    manifest = json.loads((max((tmp_path / "runs").iterdir()) / "manifest.json").read_text())
    assert manifest["models"]["cloud"]["machine"]["cores"] == os.cpu_count()
    assert manifest["engines"] == {"edge": "eager", "cloud": "eager"}
    checked = specbench("check-dtype", "--load", "--profile", profile(cloud=cloud), "--json")
    assert checked.code == 0, checked.err
    assert {audit["role"] for audit in checked.json["profiles"][0]["audits"]} == {"edge", "cloud"}
    (tmp_path / "wrong").write_text("other\n")
    for wrong, reason in ((tmp_path / "wrong", "wrong"), (None, "no token")):
        refused = specbench(
            "run", "speculative", "--profile", profile(cloud={**cloud, "token_file": wrong and str(wrong)})
        )
        assert refused.code == 7
        assert reason in refused.err


@pytest.mark.slow
def test_a_run_over_tls_with_a_certificate_that_is_known(specbench, profile, serve, tmp_path, monkeypatch):
    cert, key = certificate(tmp_path, 2)
    (tmp_path / "token").write_text("geheim-123\n")
    _, address = serve("--port", 0, "--token-file", tmp_path / "token", "--tls-cert", cert, "--tls-key", key)
    assert address.startswith("wss://")
    words = ("run", "speculative", "--profile")
    path = profile(cloud={"placement": address, "token_file": str(tmp_path / "token")})
    unknown = specbench(*words, path)
    assert unknown.code == 7
    assert "SSL_CERT_FILE" in unknown.err
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    done = specbench(*words, path)
    assert done.code == 0, done.err
    over_tls = texts(tmp_path)
    assert specbench(*words, profile()).code == 0
    assert texts(tmp_path) == over_tls


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("cloud", {"dtype": "float16"}, "cloud.dtype"),
        pytest.param("cloud", {"layers": 1}, "cloud.layers", marks=pytest.mark.slow),
        pytest.param("engine", {"kind": "compiled"}, "engine.kind", marks=pytest.mark.slow),
        pytest.param("cloud", {"batch": {"sessions": 3}}, "cloud.batch.sessions", marks=pytest.mark.slow),
    ],
)
def test_a_cloud_that_is_not_the_profiles_is_refused_before_anything_is_timed(
    specbench, profile, serve, key, value, named
):
    _, address = serve("--port", 0, **{key: value})
    refused = specbench("run", "cloud_baseline", "--profile", profile(cloud={"placement": address}))
    assert refused.code == 4
    assert named in refused.err


@pytest.mark.slow
def test_how_a_server_shares_its_passes_is_the_profiles_and_on_record(specbench, profile, serve, tmp_path):
    batch = {"sessions": 2, "wait_ms": 7}
    _, address = serve("--port", 0, cloud={"batch": batch})
    words = ("run", "cloud_baseline", "--only", "--limit", 1, "--profile")
    done = specbench(*words, profile(cloud={"placement": address, "batch": batch}))
    assert done.code == 0, done.err
    manifest = json.loads((max((tmp_path / "runs").iterdir()) / "manifest.json").read_text())
    assert manifest["models"]["cloud"]["batch"] == batch
    refused = specbench(*words, profile(cloud={"placement": address, "batch": {**batch, "wait_ms": 8}}))
    assert (refused.code, "cloud.batch.wait_ms is 8.0 here, 7.0 there" in refused.err) == (4, True)


def test_a_server_ends_on_a_signal_and_says_when_it_cannot_listen(specbench, profile, serve):
    process, address = serve("--port", 0)
    port = address.rpartition(":")[2]
    other = specbench("serve", "--profile", profile(), "--port", port)
    assert other.code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in other.err
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_other_addresses_than_loopback_need_a_token(specbench, profile, tmp_path):
    refused = specbench("serve", "--profile", profile(), "--host", "0.0.0.0")
    assert refused.code == 2
    assert "--token-file" in refused.err
    (tmp_path / "empty").write_text("\n")
    empty = specbench("serve", "--profile", profile(), "--token-file", tmp_path / "empty")
    assert empty.code == 2
    assert "is empty" in empty.err


def test_methods_that_need_both_models_in_one_process_say_so(specbench, profile):
    refused = specbench("run", "hf_assisted", "--profile", profile(cloud={"placement": "process"}))
    assert refused.code == 2
    assert "cloud.placement=in_process" in refused.err


def test_a_departure_from_the_control_is_proven_by_the_cloud(specbench, profile, tmp_path):
    plugin = tmp_path / "liar.py"
    plugin.write_text(LIAR.replace("{drafted}", "4"))
    path = profile(cloud={"placement": "process"}, workload={"limit": 1, "seed": 3})
    done = specbench("run", "liar", "--profile", path, "--plugin", plugin)
    assert done.code == 9, done.err
    assert "bug: liar departs from the control on prompt 1, turn 1, at token 3" in " ".join(done.out.split())


@pytest.mark.slow
def test_limits_and_costs_are_measured_where_the_cloud_is_placed(specbench, profile, tmp_path, monkeypatch):
    monkeypatch.setattr(cost_measurement, "REPEATS", 2)
    path = tmp_path / "costs.yaml"
    place = profile(cloud={"placement": "process"}, link={"rtt_ms": 400})
    done = specbench("limits", "--profile", place, "--costs", path, "--json")
    assert done.code == 0, done.err
    assert done.json["models"]["cloud"]["tokens_per_second"] > 0
    found = read_costs(path)
    assert found.link.rtt_ms == 400  # a modelled link is added up, not waited for
    assert 0 < found.link.overhead_ms < 200  # what two processes take to speak, of every round
    assert found.target.verify_ms[1] > 0
