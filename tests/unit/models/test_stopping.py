"""Which tokens end a text: what a model's files say, and files that cannot be read."""

import json
import re
import shutil

import pytest

from specbench.api import CloudModel
from specbench.errors import ExitCode
from specbench.profile import CloudSpec


@pytest.fixture
def folder(models, tmp_path):
    """A copy of the target that a test may change."""
    return shutil.copytree(models / "target", tmp_path / "copy")


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("nested", [False, True])
def test_without_a_generation_config_the_stop_ids_are_those_of_the_config(folder, nested):
    """As for transformers' generate; a list in the text part of a multimodal config counts too."""
    (folder / "generation_config.json").unlink()
    change_config(folder, **({"text_config": {"eos_token_id": [1, 20, 21]}} if nested else {}))
    change_config(folder, eos_token_id=None if nested else [1, 20, 21])
    assert CloudModel(CloudSpec(model=str(folder), device="cpu")).stop_ids == {1, 20, 21}


def test_a_generation_config_has_the_last_word_on_stop_ids(folder):
    change_config(folder, eos_token_id=[1, 20, 21])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert CloudModel(CloudSpec(model=str(folder), device="cpu")).stop_ids == {1, 9}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{eos", "generation_config.json cannot be read"),
        ("[]", "generation_config.json is not a JSON object"),
        ('{"eos_token_id": "</s>"}', "has the eos_token_id '</s>', and token ids are whole numbers"),
        ('{"eos_token_id": [1, "2"]}', r"has the eos_token_id \[1, '2'\], and token ids are whole numbers"),
    ],
)
def test_stop_ids_that_cannot_be_read_are_refused_before_anything_is_loaded(
    specbench, profile, folder, text, reason
):
    (folder / "generation_config.json").write_text(text)
    done = specbench("run", "cloud_baseline", "--profile", profile(cloud={"model": str(folder)}))
    assert done.code == ExitCode.MODEL
    assert re.search(reason, " ".join(done.err.split()))
    assert "loading" not in done.err
