"""Synthetic acceptance: chance accepts what was drafted, and all else is computed."""

from types import SimpleNamespace

import pytest
import torch
from specbench.plugins.hf_assisted import HfAssisted
from specbench.plugins.prompt_lookup import PromptLookup
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_adaptive import SpeculativeAdaptive
from specbench.plugins.speculative_ahead import SpeculativeAhead
from specbench.plugins.speculative_colocated import SpeculativeColocated
from specbench.plugins.speculative_pipelined import SpeculativePipelined
from specbench.plugins.speculative_tree import SpeculativeTree

from specbench.api import CloudModel, Decoding, EdgeModel, Options, Request, SpecbenchError, Speculative
from specbench.profile import CloudSpec, EdgeSpec, Gate
from specbench.profile.loading import validated
from specbench.speculation.proposal import Proposal
from specbench.speculation.rules import synthetic
from specbench.testing import STOP_ID, VOCABULARY_SIZE, answer, tokens_of

SPECULATIVE = SpeculativeDecoding()
REQUEST = Request(tuple(range(20, 50)), 120, frozenset())


def options_of(chances, decoding=None, **speculative):
    return Options(decoding or Decoding(), Speculative(synthetic_acceptance=chances, **speculative))


@pytest.fixture(scope="module")
def pair(models):
    edge = EdgeModel(EdgeSpec(model=str(models / "draft"), dtype="float64"))
    return edge, CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float64"))


@pytest.mark.parametrize(
    ("coins", "chances", "accepted"),
    [
        ((0.5, 0.5, 0.5), (0.6,), 3),
        ((0.5, 0.5, 0.5), (0.5,), 0),
        ((0.5, 0.5, 0.5), (0.9, 0.4), 1),
        ((0.5, 0.3, 0.39), (0.9, 0.4), 3),
        ((0.0, 0.0), (1.0, 0.0), 1),
    ],
)
def test_a_token_stands_by_the_chance_of_its_position_and_those_behind_the_last_by_the_last(
    coins, chances, accepted
):
    rows = len(coins) + 1
    proposal, logits = Proposal((3,) * len(coins)), torch.zeros(rows, 12)
    case = SimpleNamespace(coins=coins, choices=[7, 8, 9, 10][:rows], proposal=proposal, logits=logits)
    verdict = synthetic(case, chances)
    assert (verdict.accepted, verdict.next_token) == (accepted, 7 + accepted)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("rule", ["greedy", "coupled", "rejection"])
def test_with_certainty_all_that_a_stranger_drafted_stands_and_the_target_computes_as_ever(pair, window, rule):
    decoding = Decoding() if rule == "greedy" else Decoding(temperature=0.8)
    options = options_of(1.0, decoding, verification=rule, window=window)
    rounds = [part for part in answer(SPECULATIVE.open(*pair, options), REQUEST) if part.drafted]
    assert all(part.accepted == min(part.drafted, len(part.tokens)) for part in rounds)
    assert all(part.verify_ms > 0 and part.draft_ms > 0 for part in rounds)
    real = answer(
        SPECULATIVE.open(*pair, options_of(None, decoding, verification=rule, window=window)), REQUEST
    )
    assert sum(part.accepted or 0 for part in real) < sum(part.accepted for part in rounds)


@pytest.mark.parametrize("method", [SPECULATIVE, SpeculativeColocated()], ids=lambda method: method.name)
def test_acceptance_is_the_one_that_was_asked_for(pair, method):
    rounds = []
    for seed in range(6):
        request = Request(REQUEST.prompt_ids, 400, frozenset(), seed)
        found = answer(method.open(*pair, options_of([0.8, 0.5], draft_length=3)), request)
        rounds += [part for part in found if part.drafted == 3 and len(part.tokens) == part.accepted + 1]
    stood = [sum(part.accepted > position for part in rounds) / len(rounds) for position in range(3)]
    assert stood == pytest.approx([0.8, 0.4, 0.2], abs=0.05)


@pytest.mark.parametrize("least", [0, 12])
def test_chance_accepts_no_stop_token_before_the_least_length(pair, least):
    # A look-up proposes the stop token behind whatever the target says.
    prompt = [token for other in range(VOCABULARY_SIZE) for token in (other, STOP_ID)]
    decoder = PromptLookup().open(*pair, options_of(1.0, Decoding(min_new_tokens=least)))
    tokens = tokens_of(answer(decoder, Request(tuple(prompt), 20, frozenset({STOP_ID}))))
    assert tokens[-1] == STOP_ID
    assert least <= len(tokens) < 20


def test_never_means_a_token_a_round(pair):
    rounds = answer(SPECULATIVE.open(*pair, options_of(0.0)), REQUEST)
    assert {part.accepted for part in rounds if part.drafted} == {0}


def test_a_seed_repeats_it(pair):
    decoder = SPECULATIVE.open(*pair, options_of(0.6))
    assert tokens_of(answer(decoder, REQUEST)) == tokens_of(answer(decoder, REQUEST))


def test_it_is_never_lossless():
    assert SPECULATIVE.lossless(options_of(None))
    assert SPECULATIVE.lossless(options_of(1.0)) is False
    assert not SPECULATIVE.repeats_control(options_of(1.0))
    SPECULATIVE.validate(options_of(1.0, window="auto"))
    PromptLookup().validate(options_of(1.0))


@pytest.mark.parametrize(
    "method",
    [SpeculativePipelined(), SpeculativeAhead(), SpeculativeAdaptive(), SpeculativeTree(), HfAssisted()],
    ids=lambda method: method.name,
)  # fmt: skip
def test_a_method_whose_time_would_not_be_real_refuses_it(method):
    method.validate(options_of(None))
    with pytest.raises(SpecbenchError, match=f"synthetic_acceptance is not supported by {method.name}"):
        method.validate(options_of(0.5))


def test_a_gate_refuses_it():
    gate = Gate(measure="entropy", threshold=0.5)
    with pytest.raises(SpecbenchError, match=r"synthetic_acceptance is not supported by speculative\.gate"):
        SPECULATIVE.validate(options_of(0.5, gate=gate))


def test_one_chance_is_that_of_all_positions():
    found = [
        validated(Speculative, {"synthetic_acceptance": value}, "x") for value in (0.8, 1, [0.9, 0.5], None)
    ]
    assert [each.synthetic_acceptance for each in found] == [(0.8,), (1.0,), (0.9, 0.5), None]
    again = validated(Speculative, found[2].model_dump(mode="json"), "x")
    assert again == found[2]


@pytest.mark.parametrize("value", [1.5, -0.1, "high", True, [], [0.5, 2], {"a": 1}, [0.5] * 65])
def test_what_is_no_chance_is_refused_by_name(value):
    with pytest.raises(SpecbenchError, match="synthetic_acceptance"):
        validated(Speculative, {"synthetic_acceptance": value}, "x")
