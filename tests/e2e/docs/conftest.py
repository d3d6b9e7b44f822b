"""What the commands of the documentation find in a reader's folder."""

import json
import re
import shutil

import pytest
from blocks import all_blocks, blocks
from gguf_models import tiny_gguf
from repository import REPOSITORY

PROMPT = {"question_id": 1, "category": "qa", "turns": ["What is a draft model?"]}


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
