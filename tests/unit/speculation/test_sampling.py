"""Logits to tokens, held against transformers' own processors."""

import numpy as np
import pytest
import torch
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specbench.api import Request
from specbench.profile import Decoding
from specbench.speculation.randomness import Purpose, Stream, gumbel_noise
from specbench.speculation.sampling import Scorer, draw, penalize_repetition, probabilities


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
    torch.testing.assert_close(ours.float(), expected.softmax(-1), atol=1e-6, rtol=1e-5)


def test_repetition_penalty_is_that_of_transformers_and_sees_the_draft(logits):
    context, following = [3, 17, 3], [40, 41, 42, 43]
    ours = penalize_repetition(logits, context, following, 1.4)
    for row in range(5):
        seen = torch.tensor([[*context, *following[:row]]])
        expected = RepetitionPenaltyLogitsProcessor(1.4)(seen, logits[row : row + 1].clone())
        torch.testing.assert_close(ours[row : row + 1], expected)


def test_min_p_is_that_of_transformers(logits):
    expected = MinPLogitsWarper(0.1)(None, TemperatureLogitsWarper(0.7)(None, logits)).softmax(-1)
    ours = probabilities(logits, Decoding(temperature=0.7, min_p=0.1))
    torch.testing.assert_close(ours.float(), expected, atol=1e-6, rtol=1e-5)
    assert 0 < int((ours > 0).sum()) < ours.numel() / 4


def test_top_p_sees_what_min_p_left():
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    left = probabilities(logits, Decoding(temperature=1.0, min_p=0.5, top_p=0.75))
    assert (left > 0).tolist() == [[True, True, False, False]], "0.4 and 0.3 are 0.78 of what min-p left"
    without = probabilities(logits, Decoding(temperature=1.0, top_p=0.75))
    assert (without > 0).tolist() == [[True, True, True, False]]


PROMPT, ANSWER, DRAFT, STOP = [3, 17, 3], [17, 40, 40], [41, 40, 42, 43], frozenset([5, 6])


def penalized(logits, **decoding):
    """Rows of a block behind `ANSWER`, drafted tokens before all but the first."""
    asked = Request(tuple(PROMPT), 99, STOP)
    return Scorer(Decoding(**decoding), asked, coupled=False).penalized(logits, [*PROMPT, *ANSWER], DRAFT)


def test_bias_and_the_least_length_are_those_of_transformers_and_see_the_draft(logits):
    ours = penalized(logits, logit_bias={7: 2.5, 9: -100.0}, min_new_tokens=5, repetition_penalty=1.4)
    for row in range(5):
        text = torch.tensor([[*PROMPT, *ANSWER, *DRAFT[:row]]])
        expected = SequenceBiasLogitsProcessor([[[7], 2.5], [[9], -100.0]])(text, logits[row : row + 1])
        expected = RepetitionPenaltyLogitsProcessor(1.4)(text, expected)
        least = MinNewTokensLengthLogitsProcessor(len(PROMPT), 5, sorted(STOP))
        torch.testing.assert_close(ours[row : row + 1], least(text, expected))
    assert ours[:, 5].isinf().tolist() == [True, True, False, False, False]


def test_presence_and_frequency_penalties_count_the_answer_with_the_draft_and_not_the_prompt(logits):
    ours = penalized(logits, presence_penalty=0.5, frequency_penalty=0.25)
    expected = logits.clone()
    for row in range(5):
        said = [*ANSWER, *DRAFT[:row]]
        for token in set(said):
            expected[row, token] -= 0.5 + 0.25 * said.count(token)
    torch.testing.assert_close(ours, expected)
    assert torch.equal(ours[:, 3], logits[:, 3]), "only the prompt has this one"
    assert float(logits[4, 40] - ours[4, 40]) == pytest.approx(0.5 + 3 * 0.25)


def test_an_answer_that_repeats_itself_is_penalised_after_its_bias_as_in_vllm(logits):
    logits = torch.full((1, 50), 1.0)
    ours = penalized(logits, logit_bias={17: -2.0}, repetition_penalty=2.0, frequency_penalty=1.0)
    assert float(ours[0, 17]) == -3.0, "(1 - 2) * 2 - 1"


NOISE_OF_SEED_1_AT_2 = [0.9403267562655668, 0.702123414564107, -0.5894412876300874]


def scorer(seed=1, coupled=False, **decoding):
    return Scorer(Decoding(**decoding), Request((), 99, frozenset(), seed), coupled)


def drawn(scorer, logits, seed=1):
    return scorer.choose(logits, 40, Stream(seed, Purpose.OWN_TOKEN))


def test_temperature_zero_takes_the_highest_logit(logits):
    assert drawn(scorer(), logits) == logits.argmax(-1).tolist()
    assert probabilities(logits, Decoding()).argmax(-1).tolist() == logits.argmax(-1).tolist()


def test_draws_depend_on_the_seed_alone(logits):
    sampling = scorer(temperature=1.0)
    assert drawn(sampling, logits, 1) == drawn(sampling, logits, 1)
    assert drawn(sampling, logits, 1) != drawn(sampling, logits, 2)


@pytest.mark.parametrize("coupled", [True, False])
def test_draws_follow_the_distribution(coupled):
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]])).expand(20_000, 3)
    tokens = torch.tensor(drawn(scorer(coupled=coupled, temperature=1.0, top_k=2), logits))
    shares = torch.bincount(tokens, minlength=3) / len(tokens)
    torch.testing.assert_close(shares, torch.tensor([2 / 3, 1 / 3, 0.0]), atol=0.02, rtol=0)


def test_shared_noise_depends_on_seed_position_and_token_alone():
    noise = gumbel_noise(7, 100, 50)
    np.testing.assert_array_equal(gumbel_noise(7, 100, 200)[:50], noise)
    for other in (gumbel_noise(8, 100, 50), gumbel_noise(7, 101, 50)):
        assert not np.isclose(other, noise).any()


def test_shared_noise_is_the_same_on_every_machine_for_ever():
    np.testing.assert_allclose(gumbel_noise(1, 2, 3), NOISE_OF_SEED_1_AT_2, rtol=1e-14)


def test_streams_of_different_purpose_share_nothing():
    streams = [Stream(5, purpose) for purpose in Purpose]
    numbers = [tuple(stream.uniform() for _ in range(20)) for stream in streams]
    assert len({number for row in numbers for number in row}) == 20 * len(streams)
    assert all(0 <= number < 1 for row in numbers for number in row)


@pytest.mark.parametrize("uniform", [0.0, 0.2499, 0.25, 0.9999, 1 - 2**-53])
def test_a_draw_never_takes_a_token_of_probability_zero(uniform):
    assert draw(torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]), uniform) == (1 if uniform < 0.25 else 3)
