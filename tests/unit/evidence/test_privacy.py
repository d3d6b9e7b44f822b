"""No path, user, host or secret of this machine is in a bundle, wherever a run's records hold it."""

import getpass
import os
import socket
from dataclasses import replace

import pytest
from bundles import add_run
from comparisons import PROFILE

from specbench.errors import SpecbenchError
from specbench.evidence import archive
from specbench.evidence.bundle import bundle, read
from specbench.evidence.privacy import Known
from specbench.results.conditions import conditions
from specbench.results.records import Audit, Failure, Surroundings
from specbench.results.store import RunStore

USER, HOST, TOKEN = "mallory", "eves-laptop", "tk-0123456789abcdef"
HOME = f"/home/{USER}"
PLANTED = (
    USER,
    HOST,
    TOKEN,
    HOME,
    "/srv/",
    "/opt/",
    "10.1.2.3",
    "s3cret-in-url",
    "hf_abcdefghijklmnopqrstuvwx",
    "physics",
)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A store whose run holds each of it in many places."""
    for name, value in {
        "USER": USER,
        "LOGNAME": USER,
        "HOME": HOME,
        "HF_TOKEN": TOKEN,
        "DB_PASSWORD": "pass word 8",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(getpass, "getuser", lambda: USER)
    monkeypatch.setattr(socket, "gethostname", lambda: f"{HOST}.example.org")
    store = RunStore(tmp_path / "runs")
    here = conditions()
    audit = Audit("edge", f"{HOME}/My Models/draft", "cpu", "float32", 96, (), (), "float32", (), ())
    add_run(
        store,
        name=f"on-{HOST}",
        profile_name=f"{HOME}/profiles/mine",
        profile=PROFILE
        | {
            "edge": {"dtype": "float32", "model": f"{HOME}/My Models/draft", "vocab_map": "/srv/maps/v.json"},
            "cloud": {
                "dtype": "float32",
                "model": "~/target",
                "placement": f"wss://{HOST}:8470",
                "token_file": "/opt/token",
            },
            "workload": PROFILE["workload"] | {"prompts": f"{HOME}/p.jsonl"},
            "cluster": {"account": "physics", "partition": "physics-gpu"},
        },
        command=(
            "run",
            "m",
            "--set",
            f"edge.model={HOME}/My Models/draft",
            "--set",
            f"x={TOKEN}",
            "--runs-dir",
            "/srv/runs",
        ),
        directory=f"{HOME}/work",
        unchecked=("see ../../bob/x and /home/bob and ~bob/y and a/b and ./c/d, 3 tokens/s",),
        plugin_files=("/opt/methods/mine.py",),
        remarks=(
            f"12 of 40 prompts in {HOME}/p.jsonl are used",
            f"{USER}@{HOST}: see https://u:s3cret-in-url@10.1.2.3/x",
        ),
        failures=(
            Failure(
                "m",
                None,
                f"cannot connect to 10.1.2.3: {HOST}",
                f'File "{HOME}/mine.py", line 3, in /srv/a and (/opt/b)',
            ),
        ),
        audits=(audit,),
        models={
            "edge": {"files": {"a": "b"}, "place": "/srv/models/x"},
            "cloud": {"key": "hf_abcdefghijklmnopqrstuvwx"},
        },
        surroundings=Surroundings(
            here, replace(here), packages={"nvidia-cublas": "12.8.4.1", "a": f"1+{USER}"}
        ),
    )
    return store


def text_of(files):
    return "\n".join(data.decode() for data in files.values())


def test_nothing_of_it_is_in_any_file(planted):
    store_text = (planted.folder / "r1" / "manifest.json").read_text()
    assert all(each in store_text for each in PLANTED)
    found = text_of(bundle(planted, ["r1"]))
    assert [each for each in PLANTED if each.lower() in found.lower()] == []
    assert str(planted.folder) not in found
    assert os.getcwd() not in found


def test_the_last_part_of_a_path_stays_and_versions_do(planted, tmp_path):
    archive.write(tmp_path / "b.zip", bundle(planted, ["r1"]))
    manifest = read(tmp_path / "b.zip").runs[0].manifest
    assert manifest.profile["edge"]["model"] == "./draft"
    assert manifest.profile["cloud"]["model"] == "./target"
    assert manifest.profile["cloud"]["placement"] == "wss://host:8470"
    assert manifest.command[3:] == ("edge.model=./draft", "--set", "x=(removed)", "--runs-dir", "./runs")
    assert manifest.remarks == ("12 of 40 prompts in ./p.jsonl are used", "user@host: see https://host/x")
    assert manifest.failures[0].error == "cannot connect to host: host"
    assert manifest.failures[0].traceback == 'File "./mine.py", line 3, in ./a and (./b)'
    assert manifest.surroundings.packages == {"nvidia-cublas": "12.8.4.1", "a": "1+user"}
    assert manifest.directory is None
    assert manifest.unchecked == ("see ./x and ./user and ./y and a/b and ./c/d, 3 tokens/s",)


def test_the_name_of_the_server_is_gone_where_no_address_stands_around_it(tmp_path):
    store = RunStore(tmp_path / "runs")
    cloud = PROFILE["cloud"] | {"placement": "wss://gpu7.example.org:8470"}
    failure = Failure("m", None, "certificate is not valid for 'gpu7.example.org'")
    add_run(store, profile=PROFILE | {"cloud": cloud}, failures=(failure,))
    files = bundle(store, ["r1"])
    assert "gpu7" not in text_of(files)
    assert "certificate is not valid for 'host'" in text_of(files)


def test_a_server_of_one_word_is_gone_from_errors_and_the_word_stays_elsewhere(tmp_path):
    store = RunStore(tmp_path / "runs")
    cloud = PROFILE["cloud"] | {"placement": "ws://llama:8470", "model": "meta-llama/x"}
    failure = Failure("m", None, "llama does not answer: no address of 'llama'")
    add_run(store, profile=PROFILE | {"cloud": cloud}, failures=(failure,))
    archive.write(tmp_path / "b.zip", bundle(store, ["r1"]))
    manifest = read(tmp_path / "b.zip").runs[0].manifest
    assert manifest.failures[0].error == "host does not answer: no address of 'host'"
    assert manifest.profile["cloud"]["model"] == "meta-llama/x"


def test_what_was_asked_stays_word_for_word(tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "question")  # a word of every prompt
    store = RunStore(tmp_path / "runs")
    workload = PROFILE["workload"] | {"system": "Read /etc/hosts of question."}
    add_run(store, profile=PROFILE | {"workload": workload})
    archive.write(tmp_path / "b.zip", bundle(store, ["r1"]))
    manifest = read(tmp_path / "b.zip").runs[0].manifest
    assert manifest.turns["3"] == ("question 3?",)
    assert manifest.profile["workload"]["system"] == "Read /etc/hosts of question."


@pytest.mark.parametrize("variable", ["MY_API_KEY", "MYAPIKEY", "PROVIDER_KEY", "KEYS_OF_SERVER"])
def test_a_secret_in_a_prompt_is_refused_by_the_name_of_its_variable(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "question 7?")
    store = RunStore(tmp_path / "runs")
    add_run(store)
    with pytest.raises(
        SpecbenchError, match=f"would hold the value of the environment variable {variable}"
    ) as caught:
        bundle(store, ["r1"])
    assert "question 7" not in caught.value.message


def test_a_name_that_cannot_be_changed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "cloud_optimized_baseline")
    store = RunStore(tmp_path / "runs")
    add_run(store)
    with pytest.raises(SpecbenchError, match="holds the name of a user or a host in its manifest"):
        bundle(store, ["r1"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot connect to fe80::1ff:fe23:4567:890a%eth0", "cannot connect to host"),
        ("[2001:db8::7]:8470 refused", "[host]:8470 refused"),
        ("2001:DB8:0:0:8:800:200C:417A: timed out", "host: timed out"),
        ("fe80::1: no route", "host: no route"),
        ("from ::ffff:10.1.2.3", "from host"),
        ("WSS://User:pw@Node7.Example.org:8470/x", "WSS://host:8470/x"),
        ("ws://[fe80::1%25eth0]:8470 is gone", "ws://host:8470 is gone"),
        ("eth0 02:42:ac:11:00:0F is down", "eth0 host is down"),
        ("at 12:34:56 x[::] of c10::Error", "at 12:34:56 x[::] of c10::Error"),
    ],
)
def test_addresses_of_any_kind_are_taken_out_of_what_errors_say(text, shown):
    assert Known({}, {}).cleaned(text) == shown
