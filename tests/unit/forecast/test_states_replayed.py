"""A target whose state is restored: replays and cost tables count what it reads again."""

from dataclasses import replace
from statistics import fmean

import pytest
from builders import generation, manifest
from replays import costs, drawn, prices
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_adaptive import SpeculativeAdaptive

from specbench.engine.rereading import MOST_TOGETHER, passes
from specbench.forecast.replay import play, replay
from specbench.forecast.traced_drafter import Text
from specbench.results.records import Round
from specbench.stats.acceptance import Survival
from specbench.stats.closed_form import verification_ms
from specbench.stats.measured_costs import costs_of

RESTORING = prices(target__restores_state=True)


def rounds(text, at):
    return [one.part for one in play(text, at, SpeculativeDecoding(), 4)][1:]


def test_behind_a_refusal_the_next_pass_reads_again_what_was_accepted():
    found = rounds(Text.of("01101111110000", budget=14), RESTORING)
    assert [(part.drafted, part.accepted, part.replayed_tokens) for part in found] == [
        (4, 2, 0), (4, 4, 3), (4, 1, 0), (2, 0, 2), (1, 0, 3), (0, 0, 4),
    ]  # fmt: skip
    assert [part.verify_ms for part in found] == [
        RESTORING.pass_ms(part.drafted + 1 + part.replayed_tokens) for part in found
    ]


def test_many_tokens_are_read_again_in_a_pass_of_their_own_and_then_no_more():
    found = rounds(Text.of("0" * 40, budget=40), RESTORING)
    again = [part.replayed_tokens for part in found[:20]]
    assert again == [*range(MOST_TOGETHER + 2), 1, 2]
    assert found[MOST_TOGETHER + 1].verify_ms == pytest.approx(
        RESTORING.pass_ms(MOST_TOGETHER + 1) + RESTORING.pass_ms(5)
    )


def test_only_a_target_that_restores_its_state_reads_anything_again():
    text = drawn(0.7, 60)
    cut, restored = rounds(text, prices()), rounds(text, RESTORING)
    assert {part.replayed_tokens for part in cut} == {None}
    assert [part.tokens for part in cut] == [part.tokens for part in restored]
    took = [replay([text], each, "speculative", 4)[0].decode_ms for each in (prices(), RESTORING)]
    widths = [sum(map(RESTORING.pass_ms, passes(part.replayed_tokens, part.drafted + 1))) for part in restored]
    assert took[1] - took[0] == pytest.approx(sum(widths) - sum(part.verify_ms for part in cut))


@pytest.mark.parametrize(("alpha", "draft_length"), [(0.9, 4), (0.7, 2), (0.4, 8)])
def test_the_closed_form_has_the_mean_of_what_is_read_again(alpha, draft_length):
    text = drawn(alpha, 1500)
    played = play(text, RESTORING, SpeculativeDecoding(), draft_length)[1:-1]
    replayed_ms = fmean(one.part.verify_ms for one in played)
    expected_ms = verification_ms(Survival((alpha,)), RESTORING, draft_length)
    assert expected_ms == pytest.approx(replayed_ms, rel=0.05)
    assert expected_ms > verification_ms(Survival((alpha,)), prices(), draft_length)


def test_a_method_that_chooses_is_replayed_with_what_is_read_again():
    text = drawn(0.7, 60)
    took = [replay([text], each, SpeculativeAdaptive(), 4)[0].decode_ms for each in (prices(), RESTORING)]
    assert took[1] >= took[0]


def test_a_runs_cost_table_takes_passes_by_all_that_they_read():
    part = Round((5, 6), drafted=4, accepted=1, draft_ms=8.0, verify_ms=30.0, snapshot_bytes=1)
    again = [(0, 30.0), (2, 31.0), (MOST_TOGETHER + 1, 70.0)]
    found = [replace(part, replayed_tokens=count, verify_ms=ms) for count, ms in again]
    table = costs_of(manifest(profile={}), [generation()], found)
    assert table.target.verify_ms == {5: 30.0, 7: 31.0}, "two passes are no time of one"
    assert table.target.restores_state
    assert not costs().target.restores_state
