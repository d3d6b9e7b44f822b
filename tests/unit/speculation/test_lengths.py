"""Draft lengths chosen by what a text has shown."""

import random
from itertools import pairwise

import pytest

from specbench.results.records import Round
from specbench.speculation.draft_length import LONGEST, START, DraftLengths
from specbench.speculation.filled_sizes import FilledSizes
from specbench.speculation.measured import Measured
from specbench.speculation.window_sizes import WindowSizes

COSTS = {"draft": 2.0, "plain": 24.0, "token": 1.2}


def replay(lengths, agreement, rtt_ms, costs=COSTS, noise=0.0, rng=None):
    """Milliseconds of a text, and what was drafted each round, where `agreement` says which tokens agree."""
    committed, spent, drafted = 1, 0.0, []
    while committed < len(agreement):
        count = lengths.next(len(agreement) - committed - 1)
        accepted = 0
        while accepted < count and agreement[committed + accepted]:
            accepted += 1
        shaken = [1 + noise * rng.random() if noise else 1.0 for _ in range(2)]
        draft_ms = costs["draft"] * count * shaken[0]
        verify_ms = (costs["plain"] + costs["token"] * count) * shaken[1]
        commit = Round((1,) * (accepted + 1), accepted=accepted, verify_ms=verify_ms)
        lengths.observe(commit, count, draft_ms, count, rtt_ms)
        spent += draft_ms + verify_ms + (rtt_ms or 0.0)
        drafted.append(count)
        committed += accepted + 1
    return spent, drafted


def agreements(share, tokens, seed=0):
    rng = random.Random(seed)
    return [rng.random() < share for _ in range(tokens)]


def best_length(share, rtt_ms, costs=COSTS):
    """By the formula, with acceptance and costs known."""

    def ms_per_token(length):
        tokens = sum(share**position for position in range(length + 1))
        return (rtt_ms + costs["plain"] + length * (costs["draft"] + costs["token"])) / tokens

    return min(range(1, LONGEST + 1), key=ms_per_token)


def learnt(share, rtt_ms, tokens=6000, costs=COSTS):
    """The length chosen after a long text."""
    lengths = DraftLengths("auto")
    replay(lengths, agreements(share, tokens), rtt_ms, costs)
    return lengths.next(1000)


def test_a_number_is_that_number_unless_there_is_no_room():
    assert [DraftLengths(4).next(limit) for limit in (0, 1, 3, 4, 50)] == [0, 1, 3, 4, 4]


@pytest.mark.parametrize("limit", [0, 1, 2, 50])
def test_before_anything_is_seen_it_begins_in_the_middle(limit):
    assert DraftLengths("auto").next(limit) == min(START, limit)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("rtt_ms", [None, 20.0, 100.0])
def test_after_a_long_text_it_is_the_length_that_the_formula_gives(share, rtt_ms):
    assert learnt(share, rtt_ms) == pytest.approx(best_length(share, rtt_ms or 0.0), abs=1)


def test_a_draft_that_is_never_right_drafts_one_token():
    assert learnt(0.0, 0.0, tokens=200) == 1


def test_a_draft_that_is_always_right_is_bounded():
    assert learnt(1.0, 1000.0) == LONGEST
    lengths = DraftLengths("auto")
    replay(lengths, agreements(1.0, 500), 1000.0)
    assert lengths.next(7) == 7


def test_dear_drafts_are_short_and_cheap_ones_long():
    dear, cheap = ({**COSTS, "draft": cost} for cost in (20.0, 0.2))
    assert learnt(0.8, 0.0, costs=dear) < learnt(0.8, 0.0, costs=cheap)


def test_ten_times_the_delay_adds_a_few_tokens_however_long_it_is():
    chosen = [learnt(0.5, rtt_ms) for rtt_ms in (10.0, 100.0, 1e3, 1e4, 1e5)]
    added = [longer - shorter for shorter, longer in pairwise(chosen)]
    assert all(1 <= count <= 4 for count in added), chosen


def test_a_round_trip_that_grows_is_followed_within_a_text():
    lengths = DraftLengths("auto")
    replay(lengths, agreements(0.7, 300), 5.0)
    before = lengths.next(1000)
    replay(lengths, agreements(0.7, 60, seed=1), 300.0)
    assert lengths.next(1000) > before + 2


def test_a_position_that_always_fails_is_not_drafted_past():
    lengths = DraftLengths("auto")
    for _ in range(200):
        drafted = lengths.next(50)
        lengths.observe(Round((1, 1, 1), accepted=2, verify_ms=30.0), drafted, 20.0 * drafted, drafted, 50.0)
    assert lengths.next(50) == 2


@pytest.mark.parametrize("rtt_ms", [20.0, 50.0, 100.0])
@pytest.mark.parametrize("share", [0.5, 0.65, 0.8])
def test_over_a_dozen_texts_it_costs_at_most_five_percent_more_than_the_best_fixed_length(share, rtt_ms):
    texts = [agreements(share, 96, seed) for seed in range(12)]

    def total(draft_length):
        rng = random.Random(7)
        return sum(replay(DraftLengths(draft_length), text, rtt_ms, noise=0.2, rng=rng)[0] for text in texts)

    best = min(total(length) for length in range(1, 25))
    assert total("auto") <= 1.05 * best


def test_it_is_never_idle_where_a_token_can_be_drafted():
    assert all(count >= 1 for count in replay(DraftLengths("auto"), agreements(0.0, 50), 0.0)[1][:-1])


def test_passes_whose_times_rise_steeply_still_give_a_size():
    """A line through them meets the plain pass below zero; no pass takes less than nothing."""
    sizes = WindowSizes("auto", "auto")
    for width, verify_ms in ((1, 1.0), (1, 1.0), (16, 400.0), (16, 400.0)):
        sizes.observe(Round((5,), drafted=width, accepted=0, verify_ms=verify_ms), 0.0, None)
    assert sizes.verification[0] == 0.0
    assert sizes.ms_per_token >= 0.0


def test_so_do_passes_that_a_stream_sees():
    costs = Measured()
    costs.spend(0.01, 1, False)
    for width, verify_ms in ((6, 1.0), (40, 400.0)):
        costs.observe(Round((5,), drafted=width - 1, accepted=0, verify_ms=verify_ms), is_busy=False)
    sizes = FilledSizes(costs)
    sizes.choose()
    assert min(costs.pass_ms(False)[1:]) > 0.0
    assert sizes.ms_per_token >= 0.0
