"""A draft's distribution as it is sent: what is drawn from is what arrives, in a few hundred bytes."""

import numpy as np
import pytest
import torch

from specbench.speculation.proposal import DraftDistribution


def spread(size, slope, seed=0):
    """A distribution whose k-th likeliest token has a probability that falls like k to the power of -slope."""
    weights = torch.arange(1, size + 1, dtype=torch.float64) ** -slope
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return (weights / weights.sum())[order]


def test_a_coarse_draft_distribution_is_sampled_as_it_is_sent():
    row = torch.tensor([0.5, 3e-6, 0.3, 0.2 - 3e-6], dtype=torch.float64)
    sent = DraftDistribution.quantised(row)
    assert sent.token_ids.tolist() == [0, 2, 3]
    assert sent.probability(1) == 0
    dense = sent.dense(4, torch.device("cpu"))
    assert dense.sum() == pytest.approx(1)
    assert [sent.probability(token) for token in range(4)] == pytest.approx(dense.tolist())
    grid = (np.arange(100_000) + 0.5) / 100_000
    shares = np.bincount([sent.draw(each) for each in grid], minlength=4) / len(grid)
    assert shares == pytest.approx(dense.numpy(), abs=2e-5)


@pytest.mark.parametrize("size", [49_152, 152_064])
@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_a_distribution_over_a_real_vocabulary_takes_a_few_hundred_bytes(size, slope):
    row = spread(size, slope)
    sent = DraftDistribution.quantised(row)
    assert len(sent.packed()) <= 1 + 128 * (4 if size < 2**16 else 6)
    assert len(sent.packed()) < size * 4 / 200  # float32 of all tokens
    assert sent.token_ids.tolist() == sorted(sent.token_ids.tolist())
    assert set(row.topk(5).indices.tolist()) <= set(sent.token_ids.tolist()) or slope == 0.0


def test_a_draft_that_is_nearly_certain_takes_a_few_bytes():
    row = spread(49_152, 6.0)
    sent = DraftDistribution.quantised(row)
    assert len(sent.packed()) <= 1 + 4 * 4
    assert sent.dense(len(row), row.device)[row.argmax()] == pytest.approx(float(row.max()), abs=2e-3)


@pytest.mark.parametrize("size", [96, 49_152, 152_064])
def test_what_arrives_is_what_was_drawn_from(size):
    sent = DraftDistribution.quantised(spread(size, 1.0))
    arrived = DraftDistribution.unpacked(sent.packed())
    assert arrived.token_ids.tolist() == sent.token_ids.tolist()
    assert arrived.weights.tolist() == sent.weights.tolist()
    assert [arrived.draw(at / 100) for at in range(100)] == [sent.draw(at / 100) for at in range(100)]


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[:-1], lambda d: b"\x03" + d[1:], lambda d: d[:1]]
)
def test_what_is_no_distribution_is_refused(damage):
    data = DraftDistribution.quantised(spread(96, 1.0)).packed()
    with pytest.raises(ValueError, match="a draft distribution is"):
        DraftDistribution.unpacked(damage(data))


def test_dropping_the_tail_costs_a_draft_no_more_than_its_mass():
    row = spread(49_152, 1.5)
    sent = DraftDistribution.quantised(row).dense(len(row), row.device)
    dropped = float(row[sent == 0].sum())
    assert float(torch.minimum(row, sent).sum()) == pytest.approx(1 - dropped, abs=2e-3)
