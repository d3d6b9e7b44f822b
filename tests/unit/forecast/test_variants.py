"""Sequences that a condition changes: another agreement, a gate, another rule."""

import pytest
from replays import costs, drawn, prices

from specbench.forecast.events import Asked
from specbench.forecast.grid import grid
from specbench.forecast.over import replayed_over
from specbench.forecast.replay import known_method, replay, timeless
from specbench.forecast.traced_drafter import Text
from specbench.forecast.variants import variants, with_agreement
from specbench.stats.prices import Charge


def test_agreement_can_be_imposed_and_a_better_draft_is_never_slower():
    texts = [drawn(0.6, 400, seed) for seed in range(10)]
    over = {"agreement": [0.0, 0.3, 0.6, 0.9, 1.0]}
    rows = list(grid(variants(texts, (), over), costs(), ["speculative"], [4], over))
    rates = [row.acceptance_rate for row in rows if row.method == "speculative"]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (0, 1)
    assert len([run for text in with_agreement(texts, 0.3) for run in text.runs[1:] if run]) == pytest.approx(
        0.3 * 399 * 10, rel=0.1
    )


def test_the_agreement_that_a_trace_has_can_be_imposed_without_a_change():
    texts = [drawn(0.6, 400, seed) for seed in range(3)]
    bits = [run > 0 for text in texts for run in text.runs[1:]]
    same = with_agreement(texts, sum(bits) / len(bits))
    assert [text.runs[1:] for text in same] == [text.runs[1:] for text in texts]


def test_an_imposed_agreement_is_called_approximate(replayed, specbench):
    done = specbench("replay", *replayed, "--over", "agreement=0.5,0.9", "--over", "draft_length=2", "--json")
    assert done.json["exact"] is False


def sure(agrees, bits, budget=None):
    text = Text.of(agrees, budget or len(agrees), sure=bits)
    return text, timeless(text, known_method("speculative"), 2)[1:]


def test_what_a_gate_lets_pass_costs_its_draft_alone_and_the_next_pass_reads_it():
    text, found = sure("010110111", "011100000", 20)
    # Two sure tokens pass, the wrong one too; then the draft is unsure, and what it says is verified.
    parts = [one.part for one in found]
    assert [(part.drafted, part.unverified, len(part.tokens)) for part in parts[:2]] == [
        (None, 2, 2),
        (2, None, 3),
    ]
    assert not any(isinstance(event, Asked) for event in found[0].events)
    assert found[1].events[1].work == (Charge("pass", 5),)
    table = prices(draft__read_ms=0.0)
    (gated,) = replay([text], table, "speculative", 2)
    assert gated.rounds == sum(part.unverified is None for part in parts)
    assert gated.drafted == sum(part.drafted or 0 for part in parts)
    (ungated,) = replay([Text.of("010110111", 20)], table, "speculative", 2)
    found = gated
    assert found.decode_ms < ungated.decode_ms


def test_a_stop_token_is_never_let_pass_and_a_gate_that_is_never_sure_changes_nothing():
    assert all(one.part.unverified is None for one in sure("0111", "0111", 20)[1][1:])
    assert sure("0110101", "0000000")[1] == sure("0110101", "")[1]


WHOLE_GATES = "{measure: margin, threshold: 0.0}, {measure: margin, threshold: 2.0}"


@pytest.mark.parametrize("gates", ["gate.margin=null,0.0,2.0", f"speculative.gate=null,{WHOLE_GATES}"])
def test_gates_are_varied_as_a_profile_has_them_and_called_approximate(replayed, specbench, gates):
    over = ("--over", gates, "--over", "draft_length=2")
    done = specbench("replay", *replayed, *over, "--json")
    assert done.code == 0, done.err
    assert done.json["exact"] is False
    none, always, never = [row for row in done.json["rows"] if row["method"] == "speculative"]
    assert never["tpot_ms"] == none["tpot_ms"] > always["tpot_ms"]
    assert "gate.margin would change the text" in " ".join(specbench("replay", *replayed, *over).out.split())


def test_every_field_of_a_profile_that_a_replay_knows_has_both_names():
    over = {
        "speculative.draft_length": [2],
        "speculative.verification": ["rank"],
        "speculative.rank": [1, 20],
        "decoding.temperature": [0.5],
        "decoding.top_p": [0.9],
        "speculative.gate.measure": ["entropy"],
        "speculative.gate.threshold": [0.1, 0.5],
        "link.rtt_ms": [0, 5],
        "target.speed": [4],
    }
    assert replayed_over(over) == {
        "draft_length": [2],
        "verification": ["rank"],
        "rank": [1, 20],
        "temperature": [0.5],
        "top_p": [0.9],
        "gate.entropy": [0.1, 0.5],
        "link.rtt_ms": [0, 5],
        "target.speed": [4],
    }
    assert replayed_over({"speculative.gate": [None]}) == {"gate.entropy": [None]}
