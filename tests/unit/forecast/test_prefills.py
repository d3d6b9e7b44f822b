"""What a verification without a cache costs is summed, and told by the length of the text."""

from builders import generation, manifest

from specbench.results.records import Round, Run
from specbench.stats.prefills import by_length, server_notes
from specbench.stats.round_costs import round_costs


def verified(length, ms):
    return Round(tokens=(5,), drafted=2, accepted=0, verify_ms=ms, prefilled=length)


def test_prefills_are_means_over_the_rounds_that_prefilled():
    rounds = (
        Round(tokens=(5,), verify_ms=900.0),
        verified(10, 20.0),
        Round(tokens=(6,), verify_ms=1.0),
        verified(30, 60.0),
    )
    found = round_costs([generation(rounds=rounds, arrival_ms=(1.0, 2.0, 3.0, 4.0))])
    assert (found.prefilled_per_round, found.prefill_ms_per_round) == (20.0, 40.0)


def test_a_cloud_that_keeps_its_cache_prefills_nothing_between_rounds():
    assert round_costs([generation()]) is None


def test_times_are_told_for_thirds_of_the_rounds_by_length():
    rounds = [verified(length, float(length)) for length in (60, 10, 20, 40, 30, 50)]
    assert by_length(rounds) == [
        "15.0 ms for 10 to 20 tokens", "35.0 ms for 30 to 40 tokens", "55.0 ms for 50 to 60 tokens",
    ]  # fmt: skip


def test_the_note_on_prefills_stands_first_and_only_where_there_were_any():
    told = manifest(models={"cloud": {"kind": "vllm", "version": "1.2"}})
    with_drafts = server_notes(Run(told, (generation(rounds=(verified(10, 2.0),), arrival_ms=(1.0,)),)))
    assert with_drafts[0].startswith("every verification reads the whole text again")
    assert not any("prefills" in note for note in server_notes(Run(told, (generation(),))))
    assert "a vllm server (1.2)" in with_drafts[1]
