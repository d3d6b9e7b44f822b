"""The text that `specbench distill` trains on: how it is written, by how many, and how it is kept."""

import os
import signal
from copy import deepcopy
from dataclasses import replace
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from specbench.distill import processes, text_jobs
from specbench.distill.corpus import Corpus
from specbench.distill.packed_products import PackedLinear, pack
from specbench.distill.settings import Settings
from specbench.distill.shards import make_shards, read_summary, shard_paths, write_shard
from specbench.distill.text import GREEDY, PROMPT, USER, Dialogue, TextMaker
from specbench.distill.text_jobs import Turn
from specbench.distill.writing import Request, Writer, Written, highest
from specbench.engine import kernels
from specbench.errors import RunError, SpecbenchError
from specbench.results.records import Prompt
from specbench.testing import STOP_ID, VOCABULARY_SIZE, tiny_llama, tiny_tokenizer

PROMPTS = [Prompt(str(i), "talk", (f"say {i}", "and again", "once more")) for i in range(5)]


@pytest.fixture(scope="module", params=[8, 16], ids=["attention of torch", "attention of our own"])
def writer(tmp_path_factory, request):
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(tmp_path_factory.mktemp("text") / "target", seed=2, head_dim=request.param)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Writer(model, VOCABULARY_SIZE, frozenset([STOP_ID]), top_k=8, sequences_at_once=3)


def maker_of(writer):
    return TextMaker(writer, tiny_tokenizer(), 400)


def jobs():
    return text_jobs.from_prompts(PROMPTS, 12, seed=0)


def settings_of(folder, **other):
    values = {"tokens": 300, "jobs_per_shard": 4, **other}
    settings = Settings("target", folder, **values)
    settings.work.mkdir(parents=True)
    return settings


def stored(settings):
    found = []
    for path in shard_paths(settings.work / "text"):
        with np.load(path) as data:
            found.append({name: data[name] for name in data.files if name != "summary"})
    return found


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a[name], b[name])
        for a, b in zip(one, other, strict=True)
        for name in ("tokens", "kinds")
    )


def test_texts_of_any_length_are_those_that_generate_writes(writer):
    prompts = [tuple(range(10, 20 + 9 * index)) for index in range(7)]
    found = writer.write([Request(prompt, 5 + 4 * index, 0.0, (0,)) for index, prompt in enumerate(prompts)])
    for index, (prompt, written) in enumerate(zip(prompts, found, strict=True)):
        expected = writer.model.generate(
            torch.tensor([prompt]), max_new_tokens=5 + 4 * index, do_sample=False, eos_token_id=STOP_ID,
            pad_token_id=0,
        )  # fmt: skip
        assert written.tokens == expected[0, len(prompt) :].tolist()


def test_a_target_that_takes_no_cache_is_refused():
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    config = OpenAIGPTConfig(vocab_size=VOCABULARY_SIZE, n_embd=32, n_layer=2, n_head=4)
    model = OpenAIGPTLMHeadModel(config).eval()
    writer = Writer(model, VOCABULARY_SIZE, frozenset(), top_k=8, sequences_at_once=1)
    with pytest.raises(SpecbenchError, match="OpenAIGPTLMHeadModel takes no cache"):
        writer.write([Request((10, 11), 4, 0.0, (0,))])


def test_a_text_goes_on_as_soon_as_it_is_handed_what_it_asked_for(writer):
    """One of many turns does not wait for others, and what its slot holds is not read again."""
    read = []
    hook = writer.model.register_forward_pre_hook(
        lambda module, arguments, named: read.append(named["input_ids"].numel()), with_kwargs=True
    )
    asked = []

    def talk(number, turns):
        prompt = tuple(range(10, 20 + number))
        for _ in range(turns):
            written = yield Request(prompt, 4, 0.0, (number,))
            asked.append(number)
            prompt = (*prompt, *written.tokens, 30 + number)

    writer.play([talk(0, 6), talk(1, 1), talk(2, 1), talk(3, 1), talk(4, 1)], 100)
    hook.remove()
    assert sorted(asked) == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert asked[-1] == 0
    assert max(read[6:]) <= 14  # the opening prompts; a later turn reads its last two tokens


def test_what_a_prompt_repeats_is_stored_once_and_learnt_from_as_before(tmp_path):
    def written(*tokens):
        rows = [np.full(2, token) for token in tokens]
        return Written(list(tokens), rows, [np.zeros(2)] * len(rows))

    def said(*prompt):
        return Request(prompt, 9, 0.0, (0,))

    talks = [
        [(said(5, 6), written(7, 8), USER), (said(5, 6, 7, 8, 9), written(10), GREEDY)],
        [(said(5, 6), written(7, 8), GREEDY), (said(5, 6, 7, 9), written(11), GREEDY)],
    ]
    dialogues = [Dialogue(text_jobs.Job("talk", ()), (0,), sequences=each) for each in talks]
    assert write_shard(tmp_path / "0.npz", dialogues, 1.0)["written"] == 6
    corpus = Corpus(tmp_path)
    assert corpus.offsets.tolist() == [0, 6, 10, 15]
    assert corpus.tokens.tolist() == [5, 6, 7, 8, 9, 10, 5, 6, 7, 8, 5, 6, 7, 9, 11]
    assert corpus.kinds.tolist() == [0, 0, USER, USER, 0, GREEDY, 0, 0, GREEDY, GREEDY, 0, 0, 0, 0, GREEDY]
    learnt = corpus.tokens[corpus.kinds != PROMPT]
    assert corpus.top_ids[corpus.row_of[corpus.kinds != PROMPT], 0].tolist() == learnt.tolist()


def test_two_processes_write_what_one_does_and_no_more(writer, tmp_path, two_threads):
    one, two = settings_of(tmp_path / "one"), settings_of(tmp_path / "two")
    make_shards(maker_of(writer), jobs, one)
    make_shards(maker_of(writer), jobs, two, count=2)
    assert len(stored(one)) > 2
    assert same(stored(one), stored(two))


def test_a_shard_that_is_missing_is_written_again(writer, tmp_path):
    settings = settings_of(tmp_path)
    make_shards(maker_of(writer), jobs, settings)
    before, paths = stored(settings), shard_paths(settings.work / "text")
    paths[1].unlink()
    make_shards(maker_of(writer), jobs, settings)
    assert same(stored(settings), before)
    assert sum(read_summary(path)["written"] for path in paths) >= settings.tokens


def test_what_fails_in_a_process_is_one_sentence(writer, tmp_path, two_threads):
    broken = replace(writer, stop_ids=None)
    with pytest.raises(SpecbenchError, match="NoneType"):
        make_shards(maker_of(broken), jobs, settings_of(tmp_path), count=2)


@pytest.mark.parametrize("is_busy", [False, True], ids=["that waits", "that computes"])
def test_a_process_that_was_killed_is_one_sentence(is_busy, two_threads):
    numbers = iter(range(4))

    def next_number(busy):
        for process in active_children() if not is_busy else ():
            process.kill()
            process.join()
        return next(numbers, None)

    def call(number):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunError, match="was killed"):
        list(processes.results(call, next_number, 2))


def test_a_job_that_may_write_most_comes_first():
    long, short = (text_jobs.Job("talk", (Turn("a", budget, 0.0, 7),)) for budget in (50, 20))
    assert (long.budget, short.budget) == (57, 27)


@pytest.mark.parametrize(("rows", "size", "count"), [(3, 5000, 24), (1, 4097, 8), (2, 70, 8)])
def test_the_highest_logits_are_found_without_sorting_all(rows, size, count):
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(1))
    logits[0, -1] = 9.0
    assert torch.equal(highest(logits, count), logits.topk(count, -1).indices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("key_heads", "group", "size"), [(3, 3, 64), (2, 1, 16), (1, 6, 80)])
def test_attention_over_slots_is_attention(dtype, key_heads, group, size):
    torch.manual_seed(0)
    lengths = torch.tensor([1, 16, 17, 63, 100])
    keys, values = torch.randn(2, 6, key_heads, 128, size).to(dtype)
    query = torch.randn(5, key_heads * group, size).to(dtype)
    found = kernels.load().attend_slots(query, keys, values, lengths, 0.3)
    sees = (torch.arange(128) < lengths[:, None])[:, None, None]
    expected = scaled_dot_product_attention(
        query[:, :, None].float(), keys[:5].float(), values[:5].float(), sees, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(
        found.float(), expected[:, :, 0], atol=2e-6 if dtype == torch.float32 else 2e-2, rtol=1e-2
    )


def test_attention_over_slots_refuses_what_does_not_fit():
    keys, query = torch.randn(2, 1, 32, 16), torch.randn(2, 2, 16)
    attend = kernels.load().attend_slots
    with pytest.raises(RuntimeError, match="a slot of 32 holds 33"):
        attend(query, keys, keys, torch.tensor([1, 33]), 1.0)
    with pytest.raises(RuntimeError, match="do not fit each other"):
        attend(torch.randn(2, 2, 8), keys[..., :8], keys[..., :8], torch.tensor([1, 3]), 1.0)


def test_a_packed_layer_has_the_numbers_of_the_layer():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(32, 24), torch.nn.Linear(24, 48, bias=False)).to(torch.bfloat16)
    read, weights = torch.randn(2, 5, 32).to(torch.bfloat16), list(layer.parameters())
    pack(layer, 10)
    assert all(isinstance(each, PackedLinear) for each in layer)
    with torch.inference_mode():
        expected = linear(linear(read, *weights[:2]).to(torch.bfloat16), weights[2])
        torch.testing.assert_close(layer(read), expected, atol=1e-2, rtol=2e-2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused_wherever_they_stand(writer, bad):
    bent = replace(writer, model=deepcopy(writer.model))
    with torch.no_grad():
        bent.model.lm_head.weight[37] = bad
    with pytest.raises(SpecbenchError, match="logits are not finite"):
        bent.write([Request((5, 6, 7), 4, 0.0, (0,))])
