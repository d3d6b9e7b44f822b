"""What `specbench distill` is made of: seeds, writing, loss, schedule."""

import json
import lzma
import os
import re
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from specbench.benchmark.workload import load_prompts
from specbench.distill import heldout, seeds, text_jobs
from specbench.distill.loss import head_loss
from specbench.distill.schedule import Progress
from specbench.distill.settings import Settings, chosen_layers
from specbench.distill.text import TextMaker
from specbench.distill.text_jobs import Turn
from specbench.distill.writing import Request, Writer, is_looping
from specbench.profile import Workload
from specbench.results.records import Prompt
from specbench.testing import STOP_ID, VOCABULARY_SIZE, tiny_llama, tiny_tokenizer

PROMPTS = [Prompt("1", "talk", ("hello?", "and then?")), Prompt("2", "sums", ("1 + 2 =",))]
# Wording that any prompt of this kind may begin with.
SHARED_INSTRUCTIONS = ("Answer the question using the passages below.\n\nPassage 1:",)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("distill") / "target", seed=2, num_hidden_layers=3)


def test_a_count_of_layers_takes_the_first_ones_and_the_last():
    assert chosen_layers("3", 30) == (0, 1, 29)
    assert chosen_layers("1", 30) == (0,)
    assert chosen_layers("0,7,29", 30) == (0, 7, 29)


def eight_words(text):
    for instruction in SHARED_INSTRUCTIONS:
        text = text.replace(instruction, " ")
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[at : at + 8]) for at in range(len(words) - 7)}


def test_the_seeds_share_nothing_with_the_benchmark():
    """No eight words in a row, in passages, phrases, thousands of jobs, or the held-out prompts."""
    benchmark = set()
    for prompt in load_prompts(Workload(limit=None)):
        for turn in prompt.turns:
            benchmark |= eight_words(turn)
    assert len(benchmark) > 1000
    texts = [*seeds.passages("en"), *seeds.passages("de"), json.dumps(seeds.phrases())]
    texts += [turn.text for job in islice(seeds.jobs(0), 3000) for turn in job.turns]
    texts += [turn for prompt in heldout.heldout_prompts() for turn in prompt.turns]
    for text in texts:
        assert not eight_words(text) & benchmark, text[:200]


def test_the_seeds_are_reproducible_and_varied():
    first = list(islice(seeds.jobs(0), 600))
    assert first == list(islice(seeds.jobs(0), 600))
    assert first[:50] != list(islice(seeds.jobs(1), 50))
    assert {job.task for job in first} == {
        "conversation", "question", "mathematics", "summary", "retrieval", "translation",
    }  # fmt: skip
    assert all("{" not in turn.text for job in first if job.task == "mathematics" for turn in job.turns)
    assert any(turn.invent_tokens for job in first for turn in job.turns)
    given = [turn.text for job in first for turn in job.turns if not turn.invent_tokens]
    assert len(set(given)) > 0.9 * len(given)


def test_every_passage_names_a_source_that_the_list_explains():
    folder = Path(seeds.__file__).parent
    packed = (folder / "passages.jsonl.xz").read_bytes()
    rows = [json.loads(line) for line in lzma.decompress(packed).decode().splitlines()]
    listed = (folder / "SOURCES.md").read_text()
    for (source, licence, language), count in Counter(
        (row["source"], row["licence"], row["lang"]) for row in rows
    ).items():
        assert re.search(rf"\| {re.escape(source)} \| {language} \| {count} \| {licence} \|", listed)
    assert os.path.getsize(folder / "passages.jsonl.xz") < 1_500_000


def test_a_prompts_file_is_answered_greedily_once_and_sampled_afterwards():
    made = list(islice(text_jobs.from_prompts(PROMPTS, 32, 0), 6))
    assert [job.task for job in made[:4]] == ["talk", "sums", "talk", "sums"]
    assert all(turn.temperature == 0 for job in made[:2] for turn in job.turns)
    assert all(turn.temperature > 0 for job in made[2:] for turn in job.turns)


@pytest.fixture(scope="module")
def writer(target):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    return Writer(model, VOCABULARY_SIZE, frozenset([STOP_ID]), top_k=8, sequences_at_once=16)


def test_a_batch_writes_what_each_text_gets_alone(writer):
    requests = [
        Request(tuple(range(10, 12 + 3 * index)), 8 + 5 * index, 0.0 if index % 2 else 0.9, (7, index))
        for index in range(8)
    ]
    together = writer.write(requests)
    for request, written in zip(requests, together, strict=True):
        [alone] = writer.write([request])
        assert written.tokens == alone.tokens
        np.testing.assert_allclose(np.stack(written.top_log_probs), np.stack(alone.top_log_probs), atol=1e-4)
        assert len(written.tokens) == request.budget or written.stopped or written.looping


def test_greedy_writing_is_generate(writer):
    prompt = tuple(range(10, 30))
    [written] = writer.write([Request(prompt, 24, 0.0, (0,))])
    expected = writer.model.generate(
        torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=STOP_ID, pad_token_id=0
    )
    assert written.tokens == expected[0, len(prompt) :].tolist()
    assert [ids[0] for ids in written.top_ids] == written.tokens


def test_texts_are_read_back_as_they_were_written_by_a_tokenizer_that_takes_spaces_out(writer):
    tokenizer = tiny_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    often = tokenizer.convert_tokens_to_ids([" ", "."])
    fond = replace(writer, model=deepcopy(writer.model))
    with torch.no_grad():
        fond.model.lm_head.weight[often] *= 20
    job = text_jobs.Job("talk", (Turn("a", 60, 4.0),))
    written, read = "", ""
    for each in TextMaker(fond, tokenizer, 2048).converse([job] * 8, [(7, index) for index in range(8)]):
        for _, said, _ in each.sequences:
            written += "".join(tokenizer.convert_ids_to_tokens(said.tokens, skip_special_tokens=True))
        read += "".join(each.replies)
    assert tokenizer.clean_up_tokenization(written) != written
    assert read == written


def test_repetition_is_noticed():
    assert is_looping([1, 2, 3] * 16)
    assert not is_looping(list(range(48)))
    assert not is_looping([1, 2, 3] * 4)


@pytest.mark.parametrize("kind", ["kl", "tv", "kl+tv"])
def test_the_loss_is_the_divergence_and_has_its_gradient(kind):
    torch.manual_seed(0)
    hidden = torch.randn(7, 12, requires_grad=True)
    head = torch.randn(20, 12, requires_grad=True)
    labels = torch.stack([torch.randperm(20)[:4] for _ in range(7)])
    probabilities = torch.softmax(torch.randn(7, 4), -1)
    weights = torch.rand(7)
    log_draft = torch.log_softmax(hidden @ head.t(), -1).gather(1, labels)
    divergence = (probabilities * (probabilities.log() - log_draft)).sum(1) * ("kl" in kind)
    refused = 1 - torch.minimum(probabilities, log_draft.exp()).sum(1)
    divergence = divergence + refused * ("tv" in kind)
    expected = (divergence * weights).sum() / weights.sum().clamp_min(1.0)
    wanted = torch.autograd.grad(expected, [hidden, head])
    loss = head_loss(hidden, head, labels, probabilities, weights, torch.float32, kind)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for got, want in zip(torch.autograd.grad(loss, [hidden, head]), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("agreement", "expected"),
    [
        ([[True] * 11] * 4, (10, 2, [2, 2, 2, 2], [2, 2, 2, 2])),  # two rounds of four and a bonus
        ([[False] * 5] * 4, (4, 4, [4, 0, 0, 0], [0, 0, 0, 0])),
        ([[True, True, False, True, True]] * 4, (4, 2, [2, 2, 0, 0], [2, 1, 0, 0])),
        ([[True]] * 4, (0, 0, [0] * 4, [0] * 4)),
        # Who goes on with less says the third token at its first position, and not at its second.
        ([[True] * 4, [True, True, False, True]], (3, 2, [2, 1], [2, 0])),
    ],
)
def test_agreement_bits_decide_the_acceptance_length(agreement, expected):
    assert heldout.replayed(agreement) == expected


def test_the_time_decides_the_steps_once(tmp_path):
    timed, progress = Settings("t", tmp_path, minutes=10), Progress()
    progress.step, progress.seconds = 10, 20.0
    assert not progress.measure(timed)
    progress.step, progress.seconds = 20, 40.0
    assert progress.measure(timed)
    assert progress.total_steps == 150  # 300 s for training, 2 s a step
    assert progress.learning_rate(timed) < timed.learning_rate
    progress.step = 149
    assert progress.learning_rate(timed) == pytest.approx(timed.learning_rate / 30)


def test_the_decay_begins_when_there_is_no_new_best(tmp_path):
    patient, progress = Settings("t", tmp_path, patience=2), Progress()
    progress.fix(1000, patient)
    for step, agreement in ((100, 0.3), (200, 0.2), (300, 0.1)):
        progress.step = step
        is_best = progress.record({}, agreement, patient)
        assert is_best == (step == 100)
    assert (progress.best_step, progress.total_steps) == (100, 500)
    assert progress.learning_rate(patient) == pytest.approx(patient.learning_rate)
    progress.step = 400
    assert progress.learning_rate(patient) == pytest.approx(patient.learning_rate / 2)
