"""Logits to tokens, held against transformers' own processors."""

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specbench.config import Decoding
from specbench.decoding.sampling import Sampler, penalize_repetition, probabilities


@pytest.fixture
def logits():
    return torch.randn(5, 200, generator=torch.Generator().manual_seed(3)) * 3


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1, 0, 1), (0.7, 0, 0.9), (1.5, 10, 1), (0.8, 20, 0.6)]
)
def test_probabilities_are_those_of_transformers(logits, temperature, top_k, top_p):
    expected = TemperatureLogitsWarper(float(temperature))(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    ours = probabilities(logits, Decoding(temperature=temperature, top_k=top_k, top_p=top_p))
    torch.testing.assert_close(ours, expected.softmax(-1), atol=1e-6, rtol=1e-5)


def test_repetition_penalty_is_that_of_transformers_and_sees_the_draft(logits):
    context, following = [3, 17, 3], [40, 41, 42, 43]
    ours = penalize_repetition(logits, context, following, 1.4)
    for row in range(5):
        seen = torch.tensor([[*context, *following[:row]]])
        expected = RepetitionPenaltyLogitsProcessor(1.4)(seen, logits[row : row + 1].clone())
        torch.testing.assert_close(ours[row : row + 1], expected)


def test_temperature_zero_takes_the_highest_logit(logits):
    assert Sampler(Decoding()).choose(logits, []) == logits.argmax(-1).tolist()


def test_draws_depend_on_the_seed_alone(logits):
    decoding, cpu = Decoding(temperature=1.0), torch.device("cpu")
    first, again, other = (Sampler.seeded(decoding, seed, cpu).choose(logits, []) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_draws_follow_the_distribution():
    decoding = Decoding(temperature=1.0, top_k=2)
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]])).expand(20_000, 3)
    drawn = torch.tensor(Sampler.seeded(decoding, 5, torch.device("cpu")).choose(logits, []))
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([2 / 3, 1 / 3, 0.0]), atol=0.02, rtol=0)
