"""What a load says of a server, and what its edges draft with."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from builders import generation

from specbench.benchmark import conversation
from specbench.benchmark.preparation import prepare
from specbench.errors import CloudLostError, SpecbenchError
from specbench.forecast.acceptance_trace import Trace, TracedText
from specbench.forecast.traced_drafter import text_of
from specbench.profile import Options, load_profile
from specbench.registry import discover
from specbench.results.records import CONTROL as ALONE
from specbench.results.records import Round
from specbench.serving_load import recorded
from specbench.serving_load.departures import departures
from specbench.serving_load.edges import COLOCATED, Answer, drive, schedule
from specbench.serving_load.figures import capacity, load_row
from specbench.serving_load.recorded import Pace, RecordedDrafts
from specbench.speculation.request import Request

EDGE = "speculative"


def commit(tokens=1, accepted=0, verify_ms=20.0, own_ms=0.0, **fields):
    """A step whose pass took all of its time but `own_ms`."""
    return Round(
        tuple(range(tokens)), accepted=accepted, verify_ms=verify_ms, pass_ms=verify_ms - own_ms, **fields
    )


def answer(edge, commits, arrival_ms, ended_ms=1000.0):
    return Answer(edge, ended_ms, generation(rounds=tuple(commits), arrival_ms=arrival_ms))


def test_a_shared_pass_is_counted_once_among_those_that_shared_it():
    steps = [commit(verify_ms=50.0), commit(verify_ms=24.0, shared=2), commit(verify_ms=40.0)]
    row = load_row(ALONE, [answer(0, steps, (60.0, 100.0, 140.0))] * 2, 30.0, (0, 0))
    assert row.tokens == 6
    assert row.target_s_per_1000 == pytest.approx(2 * (50 + 12 + 40) / 6)
    assert row.decode_ms == pytest.approx((12 + 40) / 2)
    assert row.target_busy == pytest.approx(0.204)
    assert row.texts_per_pass == pytest.approx(4 / 3)  # two passes of one text, and one of two
    assert row.accepted_per_target_s is None
    assert row.capacity == pytest.approx(30 / 26)


def test_only_the_pass_is_divided_among_those_that_shared_it():
    first, step = commit(verify_ms=50.0, own_ms=50.0), commit(verify_ms=24.0, own_ms=6.0, shared=2)
    row = load_row(ALONE, [answer(0, [first, step], (60.0, 100.0))], 30.0, None)
    assert row.decode_ms == pytest.approx(18 / 2 + 6)
    assert row.target_s_per_1000 == pytest.approx((50 + 15) / 2)


def test_the_servers_reading_of_a_prompt_by_its_own_draft_is_its_time_too():
    steps = [commit(draft_ms=30.0), commit(drafted=3, draft_ms=6.0)]
    row = load_row(COLOCATED, [answer(0, steps, (60.0, 100.0))], 30.0, None)
    assert row.target_s_per_1000 == pytest.approx((20 + 30 + 20 + 6) / 2)
    assert row.decode_ms == pytest.approx(26)


def test_edges_within_an_objective_are_counted_by_their_median():
    quick, slow = (100.0, 110.0), (100.0, 160.0)
    steps = [commit(), commit()]
    answers = [answer(0, steps, quick), answer(0, steps, quick), answer(0, steps, slow), answer(1, steps, slow)]
    assert load_row(ALONE, answers, 20.0, (0, 0)).within == 1
    assert load_row(ALONE, answers, 60.0, (0, 0)).within == 2
    assert load_row(ALONE, answers, 9.0, (0, 0)).within == 0


def test_theory_is_given_the_servers_own_times():
    own = [answer(0, [commit(), commit(4, 3, shared=2, drafted=4, draft_ms=8.0)], (10.0, 40.0))]
    there = [answer(0, [commit(), commit(4, 3, shared=2, drafted=4)], (10.0, 40.0))]
    rows = load_row(EDGE, there, 50.0, (0, 0)), load_row(COLOCATED, own, 50.0, (0, 0))
    found = capacity(*rows, own)
    assert (found.draft_length, found.draft_ms, found.verify_ms) == (4, 2, 10)
    assert found.predicted == pytest.approx(1.8)
    assert found.measured == pytest.approx((10 + 8) / 10)
    assert rows[0].accepted_per_target_s == pytest.approx(3 / 0.030)


PROMPT = tuple(range(10, 20))
TEXT = TracedText(
    prompt_id="1", category="c", turn=0, repeat=0, prompt_tokens=10,
    prompt_sha256=conversation.request_sha256(Request(PROMPT, 8, frozenset())),
    max_new_tokens=8, tokens=(5, 6, 7, 8, 95, 4),
    agrees="111001", entropy=(0.0,) * 6, margin=(0.0,) * 6, log_probability=(0.0,) * 6,
)  # fmt: skip


def trace_of(**fields):
    values = {
        "exact": True, "verification": "greedy", "created_at": "", "tokenizer_sha256": "t",
        "prompts_sha256": "",
        "models": {}, "profile": {}, "engines": {}, "versions": {}, "texts": (TEXT,),
    }  # fmt: skip
    return Trace(**{**values, **fields})


def test_recorded_drafts_agree_where_the_trace_does_and_take_their_time(monkeypatch):
    slept = []
    monkeypatch.setattr(recorded.time, "sleep", slept.append)
    drafts = RecordedDrafts({TEXT.prompt_sha256: text_of(TEXT)}, Pace(step_ms=2.0, prefill_ms=0.5), 96)
    drafts.begin(Request(PROMPT, 8, frozenset()))
    drafts.commit([5], 0)
    first = drafts.propose(4).tokens
    assert first[:2] == (6, 7)
    assert first[2] != 8
    assert first[3] != 95
    drafts.commit([6, 7, 8], 2)
    second = drafts.propose(3).tokens
    assert second[0] != 95
    assert all(0 <= token < 96 for token in (*first, *second))
    assert slept == [pytest.approx(0.005), pytest.approx(0.008), pytest.approx(0.006)]


@pytest.mark.parametrize(
    ("fields", "asked", "reason"),
    [
        ({}, {"tokenizer_sha256": "other"}, "another tokenizer"),
        (
            {"exact": False, "verification": "rejection"},
            {},
            "its own lossless rule: that is rejection",
        ),
        ({}, {"verification": "coupled"}, "that is greedy, and the profile's rule is coupled"),
        ({}, {"budget": 9}, "have up to 8 tokens, but 9 are needed"),
    ],
)
def test_a_trace_of_something_else_is_refused(fields, asked, reason):
    given = {"tokenizer_sha256": "t", "verification": "greedy", "budget": 8, **asked}
    with pytest.raises(SpecbenchError, match=reason):
        recorded.recorded_texts(trace_of(**fields), **given)


def test_later_turns_and_repeats_are_no_first_turns():
    later = replace(TEXT, turn=1, prompt_sha256="later")
    again = replace(TEXT, repeat=1, tokens=(9, 9, 9, 9, 9, 9))
    known = recorded.recorded_texts(trace_of(texts=(TEXT, later, again)), "t", "greedy", 8)
    assert known == {TEXT.prompt_sha256: TEXT}


def test_arrivals_are_random_repeatable_and_as_many_as_the_rate_says(profile):
    prepared = prepare(load_profile(str(profile())), [discover(()).get(ALONE)])
    asked = schedule(prepared, 4, 400, 5.0, prepared.prompts)
    gaps = [later.due_ms - one.due_ms for one, later in pairwise(asked)]
    assert sum(gaps) / len(gaps) == pytest.approx(200, rel=0.15)
    assert min(gaps) < 20
    assert max(gaps) > 600
    assert asked == schedule(prepared, 4, 400, 5.0, prepared.prompts)
    assert [one.edge for one in asked[:6]] == [0, 1, 2, 3, 0, 1]
    assert {one.due_ms for one in schedule(prepared, 2, 9, None, prepared.prompts)} == {None}


def test_a_request_that_waits_for_its_edge_has_that_in_its_times(profile):
    class Slow:
        def answer(self, request):
            recorded.time.sleep(0.05)
            yield commit()

    prepared = prepare(load_profile(str(profile())), [discover(()).get(ALONE)])
    asked = schedule(prepared, 1, 3, 1e6, prepared.prompts)
    times = sorted(one.generation.ttft_ms for one in drive([Slow()], asked, ALONE))
    assert times[0] >= 50
    assert times[2] >= 149


def test_what_ends_one_edge_is_told_and_ends_the_load(profile):
    class Broken:
        def answer(self, request):
            raise SpecbenchError("the server refused: no")
            yield

    prepared = prepare(load_profile(str(profile())), [discover(()).get(ALONE)])
    asked = schedule(prepared, 2, 4, None, prepared.prompts)
    with pytest.raises(SpecbenchError, match="the server refused: no"):
        drive([Broken(), Broken()], asked, ALONE)


@pytest.fixture
def alone(profile):
    """A server's own answer to one request, and what is needed to judge others."""
    methods = [discover(()).get(ALONE)]
    prepared = prepare(load_profile(str(profile(workload={"limit": 1}))), methods)
    asked = schedule(prepared, 1, 1, None, prepared.prompts)
    target = prepared.cloud.target(Options.of(prepared.profile))

    class Alone:
        def answer(self, request):
            yield target.begin(request)
            yield from target.decode()

    return prepared, asked, drive([Alone()], asked, ALONE)


def altered(one, place):
    """The same answer, but for one token."""
    rounds = list(one.generation.rounds)
    rounds[place] = replace(rounds[place], tokens=(rounds[place].tokens[0] ^ 1,))
    return replace(one, generation=replace(one.generation, rounds=tuple(rounds)))


def test_a_text_with_a_token_that_no_tie_explains_is_counted_as_something_else(alone):
    prepared, asked, answers = alone
    found = departures(prepared, asked, {ALONE: [*answers, altered(answers[0], 3)]})
    assert found == {ALONE: (0, 1)}


def test_a_text_that_a_near_tie_explains_is_counted_as_a_tie(alone):
    prepared, asked, answers = alone
    weights = prepared.cloud.engine.loaded.model.lm_head.weight
    token = answers[0].generation.rounds[3].tokens[0]
    with torch.no_grad():
        weights[token ^ 1] = weights[token]
    known = {ALONE: answers, EDGE: [altered(answers[0], 3)]}
    method = discover(()).get(EDGE)
    found = departures(replace(prepared, methods=(method,)), asked, known)
    assert found == {ALONE: None, EDGE: (1, 0)}


def test_a_server_that_is_lost_over_a_proof_costs_the_proof_and_no_figure(alone, monkeypatch, logged):
    prepared, asked, answers = alone

    def lost(*arguments):
        raise CloudLostError("the cloud is gone")

    monkeypatch.setattr(prepared.cloud, "evidence", lost)
    found = departures(prepared, asked, {ALONE: [*answers, altered(answers[0], 3)]})
    assert found == {ALONE: None}
    assert f"the texts of {ALONE} are not compared with the control's: the cloud is gone" in logged.messages
    assert load_row(ALONE, answers, 30.0, found[ALONE]).departed is None
