"""Every planted fault is found and named, and an honest server passes."""

import pytest
from planted import QUESTIONS

from specbench.errors import ExitCode
from specbench.servers.answers import Question
from specbench.servers.client import Client
from specbench.servers.probing import opened
from specbench.verify import causes, distribution
from specbench.verify.conclusion import exit_status
from specbench.verify.records import DIFFERS, SAME


def causes_of(result):
    return {each.cause for each in result.verdicts if each.verdict == DIFFERS}


def test_an_honest_server_that_drafts_passes(serve, verified):
    result = verified(serve(), serve(drafting=False))
    assert result.count(SAME) == 5
    assert result.faults == []
    assert result.compared == "token ids"
    assert exit_status(result) == ExitCode.OK
    assert "says what" in result.statement
    (acceptance,) = result.acceptance
    assert 0 < acceptance.accepted < acceptance.drafted
    assert acceptance.contradictions == ()
    assert acceptance.length > 1
    assert [each.differ for each in result.steadiness] == [0, 0]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("off_by_one_after_refusal", causes.STATE),
        ("bonus_dropped", causes.MISSING),
        ("bonus_doubled", causes.DOUBLED),
        ("loops", causes.LOOP),
    ],
)
def test_a_fault_of_decoding_is_named(serve, verified, fault, cause):
    result = verified(serve(fault), serve(drafting=False))
    assert cause in causes_of(result), result.verdicts
    assert exit_status(result) == ExitCode.IDENTITY
    assert cause in result.statement


def test_tokens_behind_the_stop_token_are_named(serve, verified):
    honest = opened(Client(serve(drafting=False).url))
    stop = honest.stream(Question(honest.templated(QUESTIONS[0].turns[0]), 24)).tokens[9]
    result = verified(serve("behind_the_stop_token", stop_ids=[stop]), serve(drafting=False, stop_ids=[stop]))
    assert causes.BEHIND_STOP in causes_of(result)


def test_a_cache_reused_across_prompts_is_named(serve, verified):
    result = verified(serve("cache_reused_across_prompts"), serve(drafting=False))
    assert causes.EARLIER_REQUESTS in causes_of(result)


def test_another_chat_template_is_named_and_is_no_fault_of_decoding(serve, verified):
    result = verified(serve("other_template"), serve(drafting=False))
    assert result.count(SAME) == 5
    assert any("another chat template" in each for each in result.faults)
    assert exit_status(result) == ExitCode.CHECK_FAILED


def test_a_double_first_token_is_named(serve, verified):
    result = verified(serve("double_bos"), serve(drafting=False))
    assert any("twice" in each for each in result.faults)


def test_acceptance_that_counts_the_bonus_token_contradicts_the_passes(serve, verified):
    result = verified(serve("acceptance_counts_the_bonus"), serve(drafting=False))
    (acceptance,) = result.acceptance
    assert any("but it counts" in each for each in acceptance.contradictions)
    assert exit_status(result) == ExitCode.CHECK_FAILED


def test_a_loop_is_told_beside_the_speed(serve, verified):
    result = verified(serve("loops"), serve(drafting=False))
    assert any("over and over" in each for each in result.faults)


def test_a_server_that_ignores_the_temperature_is_told(serve, verified):
    few = {"samples": 8, "max_new_tokens": 8, "temperature": 1.5}
    greedy = verified(serve("temperature_ignored", drafting=False), **few)
    assert any("one and the same answer 8 times" in each for each in greedy.warnings)
    assert verified(serve(drafting=False), **few).warnings == []


SAMPLES = {"samples": 400, "temperature": 0.8, "max_new_tokens": 8}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "temperature"), [("residual_not_renormalised", 0.8), ("draft_temperature_twice", 0.5)]
)
def test_a_fault_of_sampling_is_found_and_named(serve, verified, far_draft, fault, temperature):
    result = verified(serve(fault, draft=far_draft), **{**SAMPLES, "temperature": temperature})
    assert result.count(DIFFERS) == 0, "greedy decoding does not show it"
    assert {each.cause for each in result.shifts if each.found} == {distribution.DRAFTING}
    assert exit_status(result) == ExitCode.IDENTITY


@pytest.mark.slow
def test_an_honest_server_samples_what_it_should(serve, verified, far_draft):
    result = verified(serve(draft=far_draft), serve(drafting=False), **SAMPLES)
    assert len(result.shifts) == 3
    assert not any(each.found for each in result.shifts)
    assert all(0 < each.detectable < 0.5 for each in result.shifts)
