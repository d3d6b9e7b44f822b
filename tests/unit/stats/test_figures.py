"""Acceptance by position, percentiles, noise of the machine, agreement of lossy texts; worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from builders import generation
from comparisons import drafting, pair, request, row, run

from specbench.render.tables import draft_cells
from specbench.results.records import Round
from specbench.stats import noise
from specbench.stats.acceptance import acceptance
from specbench.stats.comparison import CONTROL, compare
from specbench.stats.latency import percentiles
from specbench.stats.text_similarity import agreement


def test_acceptance_is_counted_position_by_position():
    found = acceptance([drafting((4, 4, 5), (4, 0, 1), (4, 1, 2), (2, 2, 3))])
    assert found.conditional == (3 / 4, 2 / 3, 1.0, 1.0)
    assert found.survival == pytest.approx((0.75, 0.5, 0.5, 0.5))
    assert found.histogram == (1, 1, 1, 0, 1)
    assert found.drafted_per_round == 3.5
    assert found.rounds == 4


def test_what_stands_behind_an_accepted_stop_token_was_not_refused():
    found = acceptance([drafting((4, 2, 2))])
    assert found.conditional == (1.0, 1.0, None, None)
    assert found.survival == (1.0, 1.0)


def test_acceptance_length_is_one_plus_the_sum_of_survivals():
    rounds = [(3, accepted, accepted + 1) for accepted in (0, 1, 3, 3, 2, 0, 3)]
    record = drafting(*rounds)
    found = acceptance([record])
    committed = sum(len(part.tokens) for part in record.rounds[1:]) / len(rounds)
    assert 1 + sum(found.survival) == pytest.approx(committed)


TREE = [(6, 2, 3)] * 40 + [(6, 1, 2)] * 20 + [(6, 0, 1)] * 20


def test_acceptance_of_a_tree_is_counted_along_its_paths():
    record = drafting(*TREE)
    record = replace(record, rounds=tuple(replace(part, depth=2) for part in record.rounds))
    found = acceptance([record])
    assert found.conditional == pytest.approx((60 / 80, 40 / 60))
    assert (found.drafted_per_round, found.seems_a_tree) == (6, False)


def test_where_drafts_seem_to_be_a_tree_nothing_is_shown_behind_its_depth_and_a_note_says_so():
    record = drafting(*TREE)
    found = acceptance([record])
    assert found.conditional == pytest.approx((60 / 80, 40 / 60, None, None, None, None))
    assert (found.judged[2:], len(found.survival)) == ((0, 0, 0, 0), 2)
    assert found.seems_a_tree
    comparison = compare([run([record])])
    assert any("seem to form a tree" in note for note in comparison.notes)
    assert draft_cells(comparison.methods[0])[-1] == "0.75 0.67 - - - -"


def test_a_chain_of_which_few_drafts_came_far_keeps_its_zero():
    found = acceptance([drafting(*[(3, 2, 3)] * 5, *[(3, 0, 1)] * 5)])
    assert (found.conditional, found.seems_a_tree) == ((0.5, 1.0, 0.0), False)


def test_a_method_that_drafts_nothing_has_no_acceptance():
    assert acceptance([generation()]) is None
    found = row([run(pair(3, 1.0))])
    assert (found.acceptance, found.verification, found.acceptance_rate) == (None, None, None)


@pytest.mark.parametrize(("samples", "known"), [(19, []), (20, ["p50"]), (99, ["p50"]), (100, ["p50", "p90"])])
def test_a_percentile_takes_ten_samples_beyond_it(samples, known):
    assert list(percentiles([generation()] * samples)["ttft_ms"]) == known


def test_chunks_are_measured_as_they_arrive():
    record = generation(rounds=(Round((1,)), Round((2, 3, 4)), Round((5,))), arrival_ms=(10, 40, 45))
    found = percentiles([record] * 10)
    assert found["chunk_ms"] == {"p50": 17.5}
    assert found["total_ms"] == {}


def test_a_noisy_control_is_noted_with_the_flag_that_helps():
    quiet = [request(CONTROL, str(q), 40.0 + q, repeat=r) for q in range(6) for r in range(2)]
    assert noise.noise_notes(quiet, 2) == []
    wild = [request(CONTROL, str(q), 40.0 * 1.5 ** ((q + r) % 2), repeat=r) for q in range(6) for r in range(2)]
    (note,) = noise.noise_notes(wild, 2)
    assert "noisy" in note
    assert "--repeats 4" in note
    slowing = [request(CONTROL, str(q), 40.0 * (1 + 0.3 * r), repeat=r) for q in range(6) for r in range(2)]
    assert any("30% slower in the last repeat" in note for note in noise.noise_notes(slowing, 2))


def test_without_repeats_the_steps_of_an_answer_tell_whether_the_machine_was_noisy():
    steady = generation(tokens=range(20), arrival_ms=tuple(40.0 * step for step in range(20)))
    uneven = generation(tokens=range(20), arrival_ms=tuple(np.cumsum([30.0, 60.0] * 10)))
    assert noise.noise_notes([steady], 1) == []
    (note,) = noise.noise_notes([uneven], 1)
    assert "--repeats 3" in note


def lossy_run(**changes):
    records = [
        generation("1", (5, 6, 7, 8), method=CONTROL, text="the cat sat on the mat"),
        generation("1", (5, 6, 9), method="m", text="the cat sat on a mat", verification="rank"),
    ]
    return run(records, lossless={CONTROL: True, "m": False}, **changes)


def test_a_lossy_text_is_measured_against_the_control_and_the_known_answers():
    found = row([lossy_run(references={"1": (("the cat sat on a mat", "a cat"),)})])
    assert found.label == "rank, lossy"
    assert found.agreement.exact_match == 0.0
    assert found.agreement.common_prefix_tokens == 2
    assert 50 < found.agreement.chrf < 100
    assert found.agreement.reference_chrf == pytest.approx(100)
    assert found.agreement.control_reference_chrf < 100
    assert row([lossy_run()]).agreement.reference_chrf is None
    assert row([lossy_run()], CONTROL).agreement is None


def test_without_sacrebleu_chrf_is_absent_with_a_note(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = compare([lossy_run()])
    assert found.methods[1].agreement.chrf is None
    assert found.methods[1].agreement.common_prefix_tokens == 2
    assert any("specbench[quality]" in note for note in found.notes)


def test_sampled_texts_have_no_common_prefix():
    records = lossy_run().generations
    found = agreement(records[:1], records[1:], {}, deterministic=False)
    assert (found.exact_match, found.common_prefix_tokens) == (None, None)
    assert found.chrf > 50


def test_different_verification_rules_are_kept_apart():
    records = [*lossy_run().generations, drafting((4, 2, 3))]
    records = [
        generation("1", method=name, rounds=drafting((4, 2, 3)).rounds, arrival_ms=(1, 2), verification=rule)
        for name, rule in (("a", "greedy"), ("b", "rank"))
    ]
    found = compare([run(records)])
    assert [row.verification for row in found.methods] == ["greedy", "rank"]
    assert any("of different verification rules are not comparable" in note for note in found.notes)
