"""What stands in place of a mask where our kernels attend."""

from types import SimpleNamespace

import pytest

from specbench.engine.compiled.attention import Limits, _limits


@pytest.mark.parametrize(
    ("settings", "local_size", "expected"),
    [
        ({}, None, None),
        ({"sliding_window": 8}, None, None),
        ({"sliding_window": 8}, 8, Limits(window=8)),
        ({"attention_chunk_size": 8}, 8, Limits(chunk=8)),
        ({"attention_chunk_size": 16, "sliding_window": 8}, 8, Limits(window=8)),
    ],
)
def test_a_mask_is_a_window_or_a_piece_of_the_text(settings, local_size, expected):
    config = SimpleNamespace(**settings)
    assert _limits(config=config, local_size=local_size, mask_function=None, use_vmap=False) == expected


@pytest.mark.parametrize(
    "asked", [{"use_vmap": True}, {"allow_is_bidirectional_skip": True}, {"attention_mask": object()}]
)
def test_a_mask_of_a_models_own_is_refused(asked):
    with pytest.raises(NotImplementedError, match="a mask of its own"):
        _limits(config=SimpleNamespace(), **asked)


def test_a_window_that_cannot_be_told_from_a_piece_is_refused():
    config = SimpleNamespace(sliding_window=8, attention_chunk_size=8)
    with pytest.raises(NotImplementedError, match="have the same size"):
        _limits(config=config, local_size=8)
