"""Drafting ahead for several outcomes: which ones, and what is there when one of them comes about."""

import pytest

from specbench.speculation.outcomes import LikelyOutcomes, Outcome


def seen(drafted, accepted, count=4, rounds=200):
    found = LikelyOutcomes(count)
    for _ in range(rounds):
        found.observe(drafted, accepted)
    return found


def test_a_draft_that_is_mostly_right_prepares_for_all_of_it_first():
    assert seen(4, 4).of(4)[0] == Outcome(4, 0)


def test_a_draft_that_is_mostly_wrong_prepares_for_its_second_and_third_choices_at_once():
    assert seen(4, 0).of(4)[:2] == [Outcome(0, 1), Outcome(0, 2)]


@pytest.mark.parametrize("count", [1, 3, 16])
@pytest.mark.parametrize("drafted", [0, 1, 7])
def test_outcomes_are_different_and_as_many_as_asked_for(count, drafted):
    found = seen(4, 2, count).of(drafted)
    assert len(set(found)) == len(found) == min(count, 1 + (drafted + 1) * count)
    assert all(outcome.rank or outcome.accepted == drafted for outcome in found)


def test_before_anything_is_seen_a_token_stands_seven_times_in_ten():
    # 0.7³ = 0.34 for all of two tokens and the guess behind them; 0.3 (1 - 2⁻⁰·⁴) = 0.07 for the first refused.
    assert LikelyOutcomes(2).of(2) == [Outcome(2, 0), Outcome(0, 1)]
