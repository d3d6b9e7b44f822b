"""Prompt files and profiles that something damaged: read, or refused in a sentence, and never a traceback.

The test of 10,000 files is slow: `pytest -n0 -m slow tests/unit/prompts/test_mutated_files.py`.
"""

import json
import random

import pytest
import yaml
from mutations import FORMATS, OURS, SETTINGS, damaged_rows, estranged, mutated

from specbench.benchmark.chat_form import ChatForm
from specbench.benchmark.conversation import prompt_ids
from specbench.benchmark.workload import read_prompts
from specbench.errors import SpecbenchError
from specbench.profile import load_profile
from specbench.prompts.preparing import Filters, prepare
from specbench.prompts.sources import choose_format, read_source
from specbench.speculation.stop_strings import StopStrings
from specbench.stats.task_scores import task_score
from specbench.testing import CHAT_TEMPLATE, tiny_tokenizer

SEED = 23
COUNTS = [300, pytest.param(10_000, marks=pytest.mark.slow)]
ENDINGS = ("jsonl", "json", "csv", "txt", "tsv", "md")
ANSWERS = ("", "1,004", "#### 1,0", '```json\n{"a": 1}\n```', "[" * 5000, "a 4", "nan")
THINKING = CHAT_TEMPLATE + "{% if enable_thinking %}{% endif %}{{ tools }}"


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def shares(done):
    """How many were read and how many refused, of which neither may be few."""
    read, refused = done.count(True), done.count(False)
    print(f"\nseed {SEED}: {len(done)} files, {read} read, {refused} refused, no traceback")
    return min(read, refused) / len(done)


def attempt(call):
    """Whether something was taken; whatever is no `SpecbenchError` is a failure."""
    try:
        call()
    except SpecbenchError:
        return False
    return True


@pytest.mark.parametrize("count", COUNTS)
def test_a_mutated_file_is_read_or_refused(tmp_path, count):
    draw, profile = random.Random(SEED), load_profile("default")
    out, done = tmp_path / "out.jsonl", []

    def prepared(file):
        source = read_source(str(file), None, None, None)
        prepare(source, *choose_format(source, None, None, None), Filters(sample=2), None, profile, out)
        assert read_prompts(str(out))

    for number in range(count):
        file = tmp_path / f"rows.{ENDINGS[number % len(ENDINGS)]}"
        file.write_bytes(damaged_rows(draw, [*FORMATS.values(), *OURS]))
        out.unlink(missing_ok=True)
        done.append(attempt(lambda file=file: prepared(file)))
        assert out.exists() == done[-1], "a refused file leaves nothing behind"
    assert shares(done) > 0.1


@pytest.mark.parametrize("count", COUNTS)
def test_a_mutated_file_is_asked_or_refused(tmp_path, tokenizer, count):
    draw, file, done = random.Random(SEED), tmp_path / "prompts.jsonl", []
    workload = load_profile("default").workload

    def asked():
        for prompt in read_prompts(str(file)):
            template = (
                THINKING if draw.random() < 0.7 else mutated(THINKING.encode(), draw).decode("utf-8", "replace")
            )
            form = ChatForm.of(workload, prompt, template)
            prompt_ids(tokenizer, prompt.turns, ["x"] * (len(prompt.turns) - 1), form)
            if prompt.task:
                assert 0 <= task_score(prompt.task, draw.choice(ANSWERS)) <= 1

    for _ in range(count):
        file.write_bytes(damaged_rows(draw, OURS))
        done.append(attempt(asked))
    assert shares(done) > 0.05


@pytest.mark.parametrize("count", COUNTS)
def test_a_mutated_profile_is_taken_or_refused(tmp_path, tokenizer, count):
    draw, file, done = random.Random(SEED), tmp_path / "own.yaml", []

    def loaded():
        profile = load_profile(str(file))
        stops = StopStrings.of(profile.decoding, tokenizer)
        assert stops is None or stops.end((), (4, 5)) in (None, 1, 2)

    for number in range(count):
        values = {"extends": "default", **SETTINGS}
        if number % 3:
            values = estranged(values, draw)
        data = yaml.safe_dump(values).encode() if number % 2 else json.dumps(values).encode()
        file.write_bytes(data if number % 3 else mutated(data, draw))
        done.append(attempt(loaded))
    assert shares(done) > 0.05
