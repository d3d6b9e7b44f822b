"""Predicted beside measured: right where rounds are as the closed form says, and a named gap where not."""

import random
from dataclasses import replace

import pytest
from builders import generation, manifest
from comparisons import PROFILE

from specbench.results.records import Round, Run
from specbench.stats.closed_form import predictions
from specbench.stats.comparison import compare

DRAFT_MS, VERIFY_MS, RTT_MS = 2.0, 20.0, 10.0


def run(
    method="speculative",
    draft_length=4,
    alpha=0.7,
    tokens=4000,
    rest_ms=0.0,
    slow=1.0,
    trip=1.0,
    sizes=(None, None),
    is_set=True,
    gate=None,
    **link,
):
    """A run whose rounds take what they should, but for what is asked for."""
    coin, rounds, arrivals, now, left = random.Random(2), [Round(tokens=(1,))], [5.0], 5.0, tokens
    while left > draft_length:
        accepted = 0
        while accepted < draft_length and coin.random() < alpha:
            accepted += 1
        # Every fourth round is slow, which a median does not see.
        late = slow if len(rounds) % 4 == 0 else 1.0
        parts = (draft_length * DRAFT_MS, VERIFY_MS * late, RTT_MS / 2 * trip, RTT_MS / 2 * trip)
        now += sum(parts) + rest_ms
        rounds.append(
            Round(
                tokens=(1,) * (accepted + 1), drafted=draft_length, accepted=accepted, draft_ms=parts[0],
                verify_ms=parts[1], uplink_ms=parts[2], downlink_ms=parts[3], bytes_up=sizes[0],
                bytes_down=sizes[1], streamed=method == "speculative_colocated",
            )
        )  # fmt: skip
        arrivals.append(now)
        left -= accepted + 1
    profile = {
        "speculative": {"draft_length": draft_length, "gate": gate},
        "link": {"rtt_ms": RTT_MS, **link} if is_set else {},
    }
    record = generation(method=method, rounds=tuple(rounds), arrival_ms=tuple(arrivals))
    return Run(manifest(methods=(method,), profile=profile), (record,))


def test_rounds_as_the_closed_form_says_are_predicted():
    (found,) = predictions(run())
    assert found.gap == pytest.approx(0, abs=0.02)
    assert found.explained_by is None
    assert found.predicted_ms == pytest.approx(found.measured_ms, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "term"),
    [
        ({"rest_ms": 12.0}, "the rest of a round"),
        ({"slow": 5.0}, "verification"),
        ({"trip": 3.0}, "round trip"),
    ],
)
def test_a_gap_above_a_tenth_is_given_its_term(settings, term):
    (found,) = predictions(run(**settings))
    assert found.gap > 0.1
    assert found.explained_by == term


def test_a_link_that_was_measured_and_not_set_is_part_of_the_prediction():
    (found,) = predictions(run(is_set=False))
    assert found.gap == pytest.approx(0, abs=0.02)


def test_the_bytes_are_those_that_the_run_sent():
    # 10 kB up take the 80 ms that the uplink of this run took longer.
    sent = {"uplink_mbps": 1.0, "sizes": (10_000, 0)}
    (found,) = predictions(run(trip=9.0, **sent))
    assert found.gap == pytest.approx(0, abs=0.02)


def test_lengths_chosen_round_by_round_are_predicted_by_those_that_were_chosen():
    short, long = run(draft_length=2, tokens=2000), run(draft_length=7, tokens=4000)
    records = [*short.generations, *long.generations]
    profile = {**short.manifest.profile, "speculative": {"draft_length": "auto"}}
    mixed = Run(manifest(methods=("speculative",), profile=profile), tuple(records))
    (found,) = predictions(mixed)
    assert found.gap == pytest.approx(0, abs=0.02)
    only = [predictions(each)[0].predicted_ms for each in (short, long)]
    assert min(only) < found.predicted_ms < max(only)


@pytest.mark.parametrize("draft_length", [1, 32, 33, 64])
def test_every_draft_length_that_a_profile_allows_is_predicted(draft_length):
    (found,) = predictions(run(draft_length=draft_length, alpha=0.95, tokens=20_000))
    assert found.gap == pytest.approx(0, abs=0.03)


def test_nobody_waits_for_the_link_of_a_stream():
    (found,) = predictions(run(method="speculative_colocated", trip=5.0, slow=5.0, sizes=(0, 8)))
    assert found.explained_by != "round trip"


def test_nothing_is_predicted_of_drafts_that_a_gate_cuts_and_a_note_says_why(specbench, profile):
    gate = {"measure": "margin", "threshold": 0.5}
    assert predictions(run(gate=gate)) == ()
    done = specbench("run", "speculative", "--profile", profile(speculative={"gate": gate}), "--json")
    assert done.code == 0, done.err
    assert done.json["predictions"] == []
    (note,) = [note for note in done.json["notes"] if "no prediction for" in note]
    assert "gate" in note


def test_a_method_without_a_closed_form_is_named_with_the_reason():
    made = run(method="prompt_lookup", tokens=60)
    profile = {**PROFILE, **made.manifest.profile}
    made = Run(replace(made.manifest, lossless={"prompt_lookup": True}, profile=profile), made.generations)
    assert "no prediction for prompt_lookup: the closed form needs" in " ".join(compare([made]).notes)
    known = run(tokens=60)
    known = Run(replace(known.manifest, lossless={"speculative": True}, profile=profile), known.generations)
    assert not [note for note in compare([known]).notes if "no prediction for" in note]


def test_nothing_is_predicted_where_the_closed_form_says_nothing():
    assert predictions(run(method="prompt_lookup")) == ()
    assert predictions(run(method="cloud_baseline")) == ()
    nothing = Run(manifest(profile={"speculative": {"draft_length": 4}}, methods=("speculative",)), ())
    assert predictions(nothing) == ()


def test_compare_shows_it_for_a_real_run(specbench, profile):
    path = profile(workload={"limit": 2, "max_new_tokens": 12})
    done = specbench("run", "speculative", "--profile", path, "--json")
    assert done.code == 0, done.err
    (found,) = done.json["predictions"]
    assert found["method"] == "speculative"
    assert found["gap"] == pytest.approx(found["measured_ms"] / found["predicted_ms"] - 1)
    assert "by the closed form" in specbench("compare", "--details").out
