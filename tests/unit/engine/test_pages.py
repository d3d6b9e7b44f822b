"""Weights in huge pages: the same tensors with the same numbers, and one copy of them."""

import itertools
import mmap
from pathlib import Path

import pytest
import torch

from specbench.engine import huge_pages
from specbench.testing import tiny_llama


def weights(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama(folder, seed=3, vocab_size=2000))


def test_a_model_keeps_its_numbers_and_its_tied_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(huge_pages, "SMALLEST", 1)
    model = weights(tmp_path).eval().requires_grad_(False)
    ids = torch.tensor([[5, 6, 7]])
    before, places = model(ids).logits, {name: part.data_ptr() for name, part in model.named_parameters()}
    huge_pages.move([*model.parameters(), *model.buffers()])
    assert torch.equal(model(ids).logits, before)
    assert all(part.data_ptr() != places[name] for name, part in model.named_parameters())
    assert all(part.data_ptr() % huge_pages.ALIGNMENT == 0 for part in model.parameters())


def test_tensors_that_shared_their_memory_still_do():
    one = torch.arange(1 << 16, dtype=torch.int32)
    same, half = one.view(one.shape), one[: 1 << 15]
    huge_pages.move([one, same, half])
    assert one.data_ptr() == same.data_ptr() != half.data_ptr()
    assert torch.equal(half, one[: 1 << 15])


def test_what_is_small_stays_where_it_is():
    small = torch.ones(100)
    place = small.data_ptr()
    huge_pages.move([small])
    assert small.data_ptr() == place


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.uint8])
def test_every_kind_of_weight_can_be_moved(dtype):
    tensor = (torch.rand(300, 301) * 100).to(dtype)
    copy = tensor.clone()
    huge_pages.move([tensor])
    assert tensor.dtype == dtype
    assert torch.equal(tensor, copy)


def test_a_system_without_huge_pages_gives_ordinary_memory(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert huge_pages.empty(3, 5).shape == (3, 5)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux says which pages it gave")
def test_linux_is_asked_for_huge_pages():
    numbers = huge_pages.empty(1 << 22).fill_(1)
    place = numbers.data_ptr()
    regions = Path("/proc/self/smaps").read_text().split("VmFlags:")
    for region, flags in itertools.pairwise(regions):
        header = next(
            line for line in region.splitlines() if line[:1] in "0123456789abcdef" and "-" in line[:20]
        )
        begin, end = (int(part, 16) for part in header.split()[0].split("-"))
        if begin <= place < end:
            assert "hg" in flags.splitlines()[0].split()
            return
    raise AssertionError("the memory is not in the process's map")
