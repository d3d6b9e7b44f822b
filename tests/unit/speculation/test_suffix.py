"""Drafts from the sequence itself, alone and beside the draft model."""

from dataclasses import replace

import pytest
from builders import shaken
from hypothesis import given
from hypothesis import strategies as st
from specbench.plugins.hybrid import HybridDecoding, HybridDrafter
from specbench.plugins.suffix import SuffixDecoding

from specbench.api import CloudModel, Decoding, EdgeModel, Options, Request, Speculative, SuffixDrafter
from specbench.forecast.replay import ANY, play
from specbench.forecast.trace_making import readings
from specbench.forecast.traced_drafter import Text
from specbench.profile import CloudSpec, EdgeSpec
from specbench.speculation.suffix import SuffixAutomaton
from specbench.testing import answer

TURNING = (7, 7, 9, 12, 7, 9)


def automaton_of(ids):
    automaton = SuffixAutomaton()
    for token in ids:
        automaton.append(token)
    return automaton


def longest_repeat(ids):
    """Length of the longest suffix that ends earlier too, and where it first does."""
    for length in range(len(ids) - 1, 0, -1):
        for end in range(length, len(ids)):
            if ids[end - length : end] == ids[-length:]:
                return length, end
    return 0, 0


@given(st.lists(st.integers(0, 3), max_size=40))
def test_the_match_is_the_longest_suffix_that_occurred_before_and_its_first_occurrence(ids):
    assert automaton_of(ids).match == longest_repeat(ids)


@pytest.mark.parametrize("ids", [[5] * 500, [1, 2] * 250, [*range(250)] * 2, [n * n % 17 for n in range(500)]])
def test_the_automaton_grows_by_two_states_and_three_transitions_a_token_at_most(ids):
    automaton = automaton_of(ids)
    assert len(automaton._end) <= 2 * len(ids)
    assert sum(map(len, automaton._next)) <= 3 * len(ids)


def proposed(ids, draft_length, min_match=1, max_draft_factor=1.0):
    drafter = SuffixDrafter(min_match, max_draft_factor)
    drafter.begin(Request(tuple(ids), 8, frozenset()))
    return drafter.propose(draft_length).tokens


@pytest.mark.parametrize(
    ("draft_length", "min_match", "factor", "expected"),
    [
        (8, 1, 1.0, (4, 5, 6)),  # three tokens match
        (8, 3, 1.5, (4, 5, 6, 1)),
        (2, 3, 1.5, (4, 5)),
        (8, 4, 8.0, ()),
        (0, 1, 8.0, ()),
    ],
)
def test_the_length_of_the_match_bounds_the_draft(draft_length, min_match, factor, expected):
    assert proposed((1, 2, 3, 4, 5, 6, 1, 2, 3), draft_length, min_match, factor) == expected


def test_a_draft_goes_on_behind_the_end_of_the_sequence_by_repeating_itself():
    assert proposed((8, 1, 2, 1, 2), 5, max_draft_factor=4.0) == (1, 2, 1, 2, 1)


@pytest.fixture
def pair(models, tmp_path):
    """In float64, where the tiny models' near-ties are none: a target, and a draft that agrees often."""
    target = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float64"))
    draft = shaken(tmp_path / "shaken", models / "target", by=0.1)
    return EdgeModel(EdgeSpec(model=str(draft), dtype="float64")), target


class Matching(HybridDrafter):
    """Keeps how many of its tokens came from a match, by round."""

    matched = ()

    def propose(self, draft_length):
        self.matched += (len(self._suffix.propose(draft_length)),)
        return super().propose(draft_length)


@pytest.mark.parametrize("draft_length", [1, 3, 6])
def test_the_draft_model_drafts_behind_matches_as_if_it_had_read_all_along(pair, draft_length):
    options = Options(Decoding(), Speculative(draft_length=draft_length))
    drafter, fresh = Matching(SuffixDrafter(2, 2.0), pair[0].drafter(options)), pair[0].drafter(options)
    target, ids = pair[1].verifier(options), list(TURNING)
    request = Request(TURNING, 60, frozenset())
    drafter.begin(request)
    commit = target.begin(request)
    drafter.commit(commit.tokens, 0)
    while commit.finish_reason is None:
        ids += commit.tokens
        proposal = drafter.propose(min(draft_length, target.remaining - 1))
        if not drafter.matched[-1]:
            fresh.begin(replace(request, prompt_ids=tuple(ids[:-1])))
            fresh.commit(ids[-1:], 0)
            assert proposal.tokens == fresh.propose(len(proposal)).tokens
        commit = target.verify(proposal)
        drafter.commit(commit.tokens, commit.accepted)
        drafter.check()
    assert 0 in drafter.matched[1:]
    assert any(drafter.matched)


@pytest.mark.parametrize("method", [SuffixDecoding(), HybridDecoding()], ids=lambda method: method.name)
@pytest.mark.parametrize("draft_length", [1, 3, 6])
def test_both_are_replayed_as_they_run(pair, method, draft_length):
    options = Options(Decoding(), Speculative(draft_length=draft_length))
    request = Request(TURNING, 120, frozenset())
    real = answer(method.open(*pair, options), request)
    tokens = tuple(token for part in real for token in part.tokens)
    bits = readings(pair[0].engine, options, request, tokens)["agrees"]
    known = {"prompt_tokens": len(TURNING), "tokens": tokens, "prompt_ids": TURNING}
    text = replace(Text.of(bits, request.max_new_tokens), **known)
    replayed = [one.part for one in play(text, ANY, method, draft_length)]
    assert [(part.tokens, part.drafted, part.accepted) for part in replayed] == [
        (part.tokens, part.drafted, part.accepted) for part in real
    ]
    assert any(part.accepted for part in real)
