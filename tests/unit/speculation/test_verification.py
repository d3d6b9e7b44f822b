"""The rules that accept drafted tokens, by themselves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specbench.api import Request
from specbench.speculation.rules import Verdict, entropy, matching
from specbench.speculation.rules.rank import accept as rank
from specbench.speculation.rules.typical import accept as typical

ids = st.integers(0, 5)


@given(st.lists(ids, max_size=8), st.data())
def test_matching_accepts_the_longest_agreeing_prefix_and_adds_the_targets_token(drafted, data):
    choices = data.draw(st.lists(ids, min_size=len(drafted) + 1, max_size=len(drafted) + 1))
    verdict = matching(drafted, choices)
    assert drafted[: verdict.accepted] == choices[: verdict.accepted]
    assert verdict.accepted == len(drafted) or drafted[verdict.accepted] != choices[verdict.accepted]
    assert verdict.next_token == choices[verdict.accepted]


def test_matching_without_a_draft_is_a_plain_step():
    assert matching([], [7]).next_token == 7


def cut(tokens, budget, stops):
    return Request((9, 9), budget, stops).cut((9, 9), tokens)


@given(st.lists(ids, min_size=1, max_size=8), st.integers(1, 8), st.sets(ids, max_size=3))
def test_nothing_behind_a_stop_token_or_the_budget_is_committed(tokens, budget, stops):
    kept, reason = cut(tokens, budget, frozenset(stops))
    assert list(kept) == tokens[: len(kept)]
    assert 1 <= len(kept) <= budget
    assert not any(token in stops for token in kept[:-1])
    assert (reason == "stop") == (kept[-1] in stops)
    if reason == "length":
        assert len(kept) == budget
    if reason is None:
        assert list(kept) == tokens
        assert len(kept) < budget


def test_a_stop_token_on_the_last_place_of_the_budget_counts_as_a_stop():
    assert cut([3, 1], 2, frozenset([1])) == ((3, 1), "stop")


def rows(*distributions):
    return torch.tensor(distributions, dtype=torch.float64)


def test_rank_accepts_a_token_among_the_k_likeliest_and_no_other():
    scores = rows([0.1, 0.4, 0.3, 0.2], [0.1, 0.4, 0.3, 0.2])
    choices = [1, 1]
    assert rank([2], scores, choices, within=2) == Verdict(1, 1)
    assert rank([3], scores, choices, within=2) == Verdict(0, 1)
    assert rank([3], scores, choices, within=3) == Verdict(1, 1)


def test_rank_of_one_is_greedy():
    scores = rows([0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4])
    for drafted in ([1, 0], [1, 1], [0, 0]):
        assert rank(drafted, scores, [1, 0, 2], within=1) == matching(drafted, [1, 0, 2])


@pytest.mark.parametrize(("share", "accepted"), [(0.2, 1), (0.05, 0)])
def test_typical_asks_less_of_a_token_where_the_target_is_unsure(share, accepted):
    """Of a flat row of 8, δ·exp(-H) = 0.3 / 8 and of a sharp one ε = 0.09 is the smaller bound."""
    flat, sharp = [1 / 8] * 8, [share, 1 - share, *[0] * 6]
    assert typical([3], rows(flat, flat), [0, 0], epsilon=0.09, delta=0.3).accepted == 1
    assert typical([0], rows(sharp, sharp), [1, 1], epsilon=0.09, delta=0.3) == Verdict(accepted, 1)


def test_typical_takes_the_smaller_of_its_two_bounds():
    row = [0.05, *[0.95 / 19] * 19]  # H = ln 20, so δ·exp(-H) = 0.015 < ε
    assert entropy(rows(row)[0]) == pytest.approx(math.log(20))
    assert typical([0], rows(row, row), [1, 1], epsilon=0.09, delta=0.3).accepted == 1
    assert typical([0], rows(row, row), [1, 1], epsilon=0.04, delta=1.0).accepted == 1
    assert typical([0], rows(row, row), [1, 1], epsilon=0.09, delta=1.0).accepted == 0
