"""What vLLM 0.32.0 really answered for a tiny model, behind a server of this process.

`SPECBENCH_VLLM_RECORD=http://host:port` records it anew (docs/how-to/vllm.md); tests that change an answer are
then skipped.
"""

import json
import os
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from builders import PLAIN
from vllm_exchanges import KEY, PROMPT, STOPS, Recorder, Replay, alone

from specbench.api import CloudModel, Request
from specbench.cloud.openai_cloud import OpenAiCloud
from specbench.profile import CloudSpec
from specbench.testing import tiny_llama

RECORDED = Path(__file__).parent / "vllm-0.32.0.json"
ASKED = (
    {"question_id": 1, "category": "talk", "turns": ["hello", "and?"]},
    {"question_id": 2, "category": "sums", "turns": ["12 + 30?"]},
)
UPSTREAM = os.environ.get("SPECBENCH_VLLM_RECORD")


@pytest.fixture(scope="session")
def upstream():
    """What records, where that is asked for."""
    if not UPSTREAM:
        yield None
        return
    with Recorder(UPSTREAM) as recorder:
        yield recorder
        recorder.save(RECORDED)


@pytest.fixture
def server(upstream):
    """A server that answers as vLLM did; keyword arguments make it worse."""

    @contextmanager
    def begin(**worse):
        if upstream is None:
            with Replay(RECORDED, **worse) as replay:
                yield replay
            return
        if worse:
            pytest.skip("recording")
        upstream.asked.clear()
        yield upstream

    return begin


@pytest.fixture(scope="session")
def target_folder(tmp_path_factory):
    """The recorded model: vLLM's CPU attention takes heads of 32 and more."""
    return tiny_llama(
        tmp_path_factory.mktemp("vllm") / "target", seed=2, hidden_size=128, initializer_range=0.1
    )


@pytest.fixture(scope="session")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "token"
    path.write_text(KEY + "\n")
    return path


@pytest.fixture
def cloud(target_folder, token_file):
    """The tiny target on a server, as a method receives it."""

    def reach(url, key=True, **fields):
        spec = CloudSpec(
            model=str(target_folder),
            backend="openai",
            placement=url,
            token_file=str(token_file) if key else None,
            **fields,
        )
        return OpenAiCloud(spec)

    return reach


@pytest.fixture
def profile(target_folder, token_file, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in ASKED))

    def write(url, **cloud):
        values = {
            "edge": {"model": str(target_folder)},
            "cloud": {
                "model": str(target_folder), "backend": "openai", "placement": url,
                "token_file": str(token_file), **cloud,
            },
            "engine": {"kind": "eager"},
            "workload": {"prompts": str(prompts), "limit": None, "max_new_tokens": 16},
        }  # fmt: skip
        path = tmp_path / "vllm.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="session")
def own_text(target_folder):
    """What our own control says behind `PROMPT`."""
    with closing(CloudModel(CloudSpec(model=str(target_folder), device="cpu"))) as here:
        return alone(here.target(PLAIN), Request(PROMPT, 24, STOPS))
