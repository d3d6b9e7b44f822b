"""The rules that accept drafted tokens, by themselves."""

from hypothesis import given
from hypothesis import strategies as st

from specbench.decoding.verification import cut, matching

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
