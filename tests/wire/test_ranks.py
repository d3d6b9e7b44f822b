"""A target that is split over ranks: what it says, and what becomes of it when a rank is lost."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from builders import tiny_mistral

from specbench.config import CloudSpec, Decoding, Options, Speculative
from specbench.config.loading import load_profile
from specbench.decoding import ranks
from specbench.decoding.request import Request
from specbench.errors import RanksLostError, SpecbenchError
from specbench.factories import CloudModel
from specbench.factories.split import SplitCloudModel
from specbench.testing import tiny_llama

GREEDY = Options(Decoding(), Speculative())
SAMPLED = Decoding(temperature=0.9)
REQUEST = Request(tuple(range(10, 40)), 16, frozenset(), 5)


def quiet(line):
    pass


@contextlib.contextmanager
def split(folder, tensor=2, **fields):
    spec = CloudSpec(model=str(folder), device="cpu", parallel={"tensor": tensor}, **fields)
    cloud = SplitCloudModel(spec, quiet)
    try:
        yield cloud
    finally:
        cloud.close()


def whole(folder, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", **fields), quiet)


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def logits_of(cloud):
    """Of passes of many widths, behind a cache that is cut back in between."""
    session = cloud.engine.session()
    found = [session.prefill(range(10, 40)), session.extend([7, 8, 9, 10]), session.extend([11])]
    session.truncate(31)
    found += [session.extend([50, 51]), session.extend([52])]
    session.truncate(0)
    return [*found, session.prefill([60, 61, 62])]


def tokens_of(commits):
    return [token for commit in commits for token in commit.tokens]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
def test_two_ranks_agree_with_one_process(models, dtype, tolerance):
    alone = whole(models / "target", dtype=dtype)
    with split(models / "target", dtype=dtype) as cloud:
        apart = [float((a - b).abs().max()) for a, b in zip(logits_of(alone), logits_of(cloud), strict=True)]
        assert max(apart) < tolerance
        for decoding in (Decoding(), SAMPLED):
            assert tokens_of(cloud.generate(REQUEST, decoding)) == tokens_of(alone.generate(REQUEST, decoding))
        audit, before = cloud.audit(), alone.audit()
    assert (audit.ranks, audit.declared, audit.problem) == (2, dtype, None)
    norms = sum(p.nbytes for name, p in alone.engine.loaded.model.named_parameters() if "norm" in name)
    assert audit.parameters[0].bytes == before.parameters[0].bytes + norms  # which every rank has
    assert audit.cache == before.cache


def test_a_sliding_window_is_rolled_back_on_every_rank(tmp_path):
    folder = tiny_mistral(tmp_path / "m", window=8)
    alone = whole(folder, dtype="float64")
    with split(folder, dtype="float64") as cloud:
        for ours, theirs in zip(logits_of(alone), logits_of(cloud), strict=True):
            assert float((ours - theirs).abs().max()) < 1e-12


def test_widths_that_do_not_divide_are_split_unevenly(tmp_path):
    folder = tiny_llama(tmp_path / "m", seed=3, intermediate_size=67, vocab_size=97, num_attention_heads=4,
                        num_key_value_heads=4)  # fmt: skip
    alone = whole(folder, dtype="float64")
    with split(folder, tensor=4, dtype="float64") as cloud:
        assert cloud.audit().ranks == 4
        for ours, theirs in zip(logits_of(alone), logits_of(cloud), strict=True):
            assert float((ours - theirs).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("heads", "tensor", "field"), [((9, 3), 2, "num_attention_heads is 9"), ((4, 1), 2, "num_key_value_heads is 1")]
)
def test_heads_that_do_not_divide_are_refused_before_anything_starts(tmp_path, heads, tensor, field):
    folder = tiny_llama(tmp_path / "m", seed=3, hidden_size=36, num_attention_heads=heads[0],
                        num_key_value_heads=heads[1])  # fmt: skip
    (folder / "model.safetensors").write_bytes(b"no weights")
    with split(folder, tensor) as cloud, pytest.raises(SpecbenchError, match=field) as refused:
        cloud.load()
    assert cloud.processes is None
    assert refused.value.exit_code == 4
    if heads == (9, 3):
        assert "cloud.parallel.tensor=3 divides them" in refused.value.hint


def test_the_default_target_cannot_be_split_by_two():
    from specbench.models.shipped import SHIPPED  # its configuration comes with specbench
