"""The cache: appending, rolling back, and models that cannot."""

import pytest
import torch
from builders import tiny_mistral

from specbench.cloud import CloudModel
from specbench.profile import CloudSpec, EngineSpec
from specbench.testing import tiny_llama

TOKENS = [20, 31, 42, 53, 64, 75, 30, 41, 52, 63, 74, 21, 32, 43]


def cloud(folder, engine=None, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", dtype="float64", **fields), engine=engine)


@pytest.fixture(params=["full attention", "sliding window", "compiled"])
def engine(request, tmp_path):
    sliding = request.param == "sliding window"
    folder = tiny_mistral(tmp_path, window=5) if sliding else tiny_llama(tmp_path, seed=3)
    kind = "compiled" if request.param == "compiled" else "eager"
    found = cloud(folder, engine=EngineSpec(kind=kind)).engine
    assert found.kind == kind
    return found


def test_a_wide_pass_gives_the_logits_of_single_steps(engine):
    wide, steps = engine.session(), engine.session()
    rows = wide.extend(TOKENS)
    for index, token in enumerate(TOKENS):
        torch.testing.assert_close(steps.extend([token])[0], rows[index])


def test_prefill_gives_the_last_row_alone(engine):
    session, whole = engine.session(), engine.session()
    row = session.prefill(TOKENS)
    assert row.shape == (1, 96)
    torch.testing.assert_close(row[0], whole.extend(TOKENS)[-1])


@pytest.mark.parametrize("keep", range(9, 14))
def test_after_a_rollback_the_past_is_as_if_the_rest_had_never_been(engine, keep):
    rolled, fresh = engine.session(), engine.session()
    rolled.prefill(TOKENS[:9])
    rolled.extend(TOKENS[9:12])
    rolled.extend(TOKENS[12:])
    rolled.truncate(keep)
    assert rolled.length == rolled.cached_length == keep
    fresh.prefill(TOKENS[:9])
    fresh.truncate(9)
    for token in TOKENS[9:keep]:
        fresh.extend([token])
        fresh.truncate(fresh.length)
    torch.testing.assert_close(rolled.extend([50, 51]), fresh.extend([50, 51]))


@pytest.mark.parametrize("keep", [10, 9, 6])
def test_a_second_rollback_goes_back_past_the_first_one(engine, keep):
    """A window must still hold what the tokens before the first place saw."""
    rolled, fresh = engine.session(), engine.session()
    rolled.prefill(TOKENS[:9])
    rolled.extend(TOKENS[9:])
    rolled.truncate(12)
    rolled.truncate(11)
    rolled.truncate(keep)
    fresh.prefill(TOKENS[:keep])
    torch.testing.assert_close(rolled.extend([50, 51]), fresh.extend([50, 51]))


def test_a_rollback_past_all_that_a_window_keeps_is_an_error_and_never_a_wrong_text(tmp_path):
    session = cloud(tiny_mistral(tmp_path, window=5)).engine.session()
    session.prefill([20 + index % 70 for index in range(200)])
    session.truncate(199)
    with pytest.raises(ValueError, match="cannot go back to token 100: a window of 5 tokens"):
        session.truncate(100)


def test_a_cache_cannot_be_truncated_beyond_its_length(engine):
    session = engine.session()
    session.prefill(TOKENS)
    with pytest.raises(ValueError, match="cannot truncate a cache of 14 tokens to 15"):
        session.truncate(15)


def test_logits_of_padding_ids_are_cut_off(tmp_path):
    tiny_llama(tmp_path, seed=3, vocab_size=128)
    assert cloud(tmp_path).engine.session().extend([5]).shape == (1, 96)


def test_a_long_prompt_is_read_in_parts_and_says_the_same(tmp_path):
    cloud = CloudModel(CloudSpec(model=str(tiny_llama(tmp_path, seed=3)), device="cpu", dtype="float64"))
    prompt = [20 + index % 70 for index in range(90)]
    whole = cloud.engine.session().prefill(prompt)
    cloud.engine.prefill_chunk = 32
    before = cloud.engine.passes
    session = cloud.engine.session()
    parts = session.prefill(prompt)
    assert (cloud.engine.passes - before, session.cached_length) == (3, 90)
    torch.testing.assert_close(parts, whole)
    rows = cloud.engine.session().prefill(prompt, 40)
    assert rows.shape[0] == 40, "rows that are asked for come from one pass"
    torch.testing.assert_close(rows[-1:], whole)
