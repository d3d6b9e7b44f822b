"""G-tests hold their level, and find the shift that they say they find."""

from collections import Counter

import numpy as np
import pytest

from specbench.verify import gtest

SHARES = np.array([0.4, 0.2, 0.1] + [0.01] * 30)
STATED = dict(enumerate(SHARES))


def drawn(shares, size, random):
    return Counter({token: int(count) for token, count in enumerate(random.multinomial(size, shares)) if count})


def shifted_by(distance):
    moved = SHARES.copy()
    moved[0] -= distance
    moved[3:] += distance / 30
    return moved


def test_what_is_drawn_as_stated_passes_as_often_as_it_should():
    random = np.random.default_rng(1)
    p_values = [gtest.p_value(gtest.against(drawn(SHARES, 400, random), STATED)[0]) for _ in range(400)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)


def test_two_samples_of_one_distribution_pass_as_often_as_they_should():
    random = np.random.default_rng(2)
    p_values = [
        gtest.p_value(gtest.two_samples(drawn(SHARES, 400, random), drawn(SHARES, 400, random))[0])
        for _ in range(400)
    ]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)


def test_a_shift_as_large_as_is_said_to_be_detectable_is_found():
    random = np.random.default_rng(3)
    (table,) = gtest.against(drawn(SHARES, 1000, random), STATED)
    least = gtest.detectable(table.freedom, table.weight)
    assert 0.03 < least < 0.2
    found = [
        gtest.p_value(gtest.against(drawn(shifted_by(least), 1000, random), STATED)[0]) < gtest.SIGNIFICANCE
        for _ in range(60)
    ]
    assert np.mean(found) >= 0.9


def test_rare_tokens_are_counted_with_others_as_rare():
    counts = Counter({0: 160, 1: 80, 2: 40, 32: 120})
    (table,) = gtest.against(counts, STATED)
    assert gtest.p_value(table) < 1e-6
    assert gtest.against(Counter({0: 3}), STATED) == []
