"""What the commands of the documentation find in a reader's folder."""

import json
import re
import shutil

import pytest
import yaml
from blocks import all_blocks, blocks
from gguf_models import tiny_gguf
from repository import REPOSITORY

import specbench.profile.loading

SMALL = {"limit": 2, "max_new_tokens": 6, "warmup": 0, "repeats": 1}
PROMPT = {"question_id": 1, "category": "qa", "turns": ["What is a draft model?"]}


@pytest.fixture
def tiny_profiles(models, tmp_path, monkeypatch):
    """The shipped profiles on a tiny pair, with few and short answers."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    shipped = specbench.profile.loading.list_profiles()
    for name, path in shipped.items():
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for role, model in (("edge", "draft"), ("cloud", "target")):
            if "model" in values.get(role, {}):
                is_target = values[role]["model"] == "embedded:smollm2-135m-instruct"
                values[role]["model"] = str(models / ("target" if is_target else model))
        if values.get("edge", {}).get("vocab_map"):
            values["edge"]["vocab_map"] = None
        values["engine"] = {"kind": "eager"}
        values["workload"] = {**values.get("workload", {}), **SMALL}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    found = {name: folder / f"{name}.yaml" for name in shipped}
    monkeypatch.setattr(specbench.profile.loading, "list_profiles", lambda: found)


@pytest.fixture
def desk(models, tmp_path, monkeypatch, tiny_profiles):
    """A folder with the files that the pages speak of; the working directory."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copytree(models / "draft", folder / "my-draft")
    shutil.copytree(models / "target", folder / "my-target")
    for name in ("prompts.jsonl", "my-prompts.jsonl"):
        (folder / name).write_text(json.dumps(PROMPT) + "\n")
    (folder / "plain.txt").write_text("What is a draft model?\n")
    (folder / "messages.jsonl").write_text('{"messages": [{"role": "user", "content": "Hello"}]}\n')
    (folder / "my.yaml").write_text("extends: default\n")
    tiny_gguf(folder / "target.gguf", seed=2)
    tiny_gguf(folder / "draft.gguf", seed=1, num_hidden_layers=1, kind="Q8_0")
    for block in blocks(REPOSITORY / "docs" / "how-to" / "gguf.md"):
        if block.language == "yaml":
            (folder / "gguf.yaml").write_text(block.text)
    for block in all_blocks("python"):
        if "def specbench_method" in block.text and block.page.parent == REPOSITORY / "docs" / "how-to":
            name = re.search(r'name, summary, \w+ = "(\w+)"', block.text)[1]
            (folder / f"{name}.py").write_text(block.text)
    return folder
