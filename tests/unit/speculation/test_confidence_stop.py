"""`speculative.confidence_stop`: a draft ends behind the first token that it gives too low a probability."""

import math
from dataclasses import replace

import pytest
from builders import shaken
from replays import trace
from specbench.plugins.hf_assisted import HfAssisted
from specbench.plugins.prompt_lookup import PromptLookup
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_colocated import SpeculativeColocated
from specbench.plugins.suffix import SuffixDecoding

from specbench.api import CloudModel, Decoding, EdgeModel, Options, Request, SpecbenchError, Speculative
from specbench.errors import ExitCode
from specbench.forecast.acceptance_trace import write_trace
from specbench.forecast.replay import ANY, play
from specbench.forecast.trace_making import readings
from specbench.forecast.traced_drafter import Text
from specbench.profile import CloudSpec, EdgeSpec
from specbench.testing import answer

PROMPT = (7, 7, 9, 12, 7, 9)
REQUEST = Request(PROMPT, 120, frozenset())
STOPS = [0.2, 0.5, 0.9]


def options_of(stop, draft_length=6):
    return Options(Decoding(), Speculative(draft_length=draft_length, confidence_stop=stop))


@pytest.fixture
def pair(models, tmp_path):
    """In float64, where the tiny models' near-ties are none: a target, and a draft that agrees often."""
    target = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float64"))
    draft = shaken(tmp_path / "shaken", models / "target", by=0.1)
    return EdgeModel(EdgeSpec(model=str(draft), dtype="float64")), target


def begun(edge, options, token):
    drafter = edge.drafter(options)
    drafter.begin(REQUEST)
    drafter.commit((token,), 0)
    return drafter


def test_a_draft_ends_behind_the_first_token_that_it_is_unsure_of(pair):
    lengths = set()
    for token in range(10, 40):
        free, chances = begun(pair[0], options_of(None), token), []
        expected = begun(pair[0], options_of(None), token).propose(6).tokens
        for drafted in expected:
            chances.append(math.exp(free.log_probabilities()[drafted]))
            free.append((drafted,))
        count = next((index + 1 for index, chance in enumerate(chances) if chance < 0.2), 6)
        assert begun(pair[0], options_of(0.2), token).propose(6).tokens == expected[:count]
        lengths.add(count)
    assert len(lengths) > 2


def test_the_least_certain_draft_has_one_token_and_a_low_threshold_ends_none(pair):
    assert len(begun(pair[0], options_of(1.0), 5).propose(6)) == 1
    assert len(begun(pair[0], options_of(1e-9), 5).propose(6)) == 6


def test_tokens_of_another_drafter_are_not_asked_about(pair):
    for length, count in ((3, 3), (6, 4)):
        drafter = begun(pair[0], options_of(1.0), 5)
        drafter.append((50, 61, 7))
        proposal = drafter.propose(length)
        assert proposal.tokens[:3] == (50, 61, 7)
        assert len(proposal) == count


@pytest.mark.parametrize("method", [SpeculativeDecoding(), SpeculativeColocated()], ids=lambda each: each.name)
@pytest.mark.parametrize("stop", STOPS)
def test_less_is_drafted_and_a_larger_share_of_it_accepted(pair, method, stop):
    free, stopped = (answer(method.open(*pair, options_of(each)), REQUEST) for each in (None, stop))
    assert [token for part in free for token in part.tokens] == [
        token for part in stopped for token in part.tokens
    ]
    drafted, accepted = ([sum(getattr(part, name) or 0 for part in parts) for parts in (free, stopped)]
                         for name in ("drafted", "accepted"))  # fmt: skip
    assert drafted[1] < drafted[0]
    assert accepted[1] / drafted[1] > accepted[0] / drafted[0]


@pytest.mark.parametrize("stop", STOPS)
def test_a_replay_commits_what_a_run_does(pair, stop):
    real = answer(SpeculativeDecoding().open(*pair, options_of(stop)), REQUEST)
    tokens = tuple(token for part in real for token in part.tokens)
    columns = readings(pair[0].engine, options_of(stop), REQUEST, tokens)
    unsure = frozenset(
        index for index, value in enumerate(columns["log_probability"]) if math.exp(value) < stop
    )
    text = Text.of(columns["agrees"], REQUEST.max_new_tokens)
    text = replace(text, prompt_tokens=len(PROMPT), tokens=tokens, unsure=unsure)
    replayed = [one.part for one in play(text, ANY, SpeculativeDecoding(), 6)]
    assert [(part.tokens, part.accepted) for part in replayed] == [
        (part.tokens, part.accepted) for part in real
    ]
    alike = [ours.drafted == theirs.drafted for ours, theirs in zip(replayed, real, strict=True)]
    assert sum(alike) / len(alike) > 0.8


def test_a_replay_varies_it_and_says_what_is_not_known(replayed, specbench):
    known = trace()
    sure = [tuple(0.0 if bit == "1" else -2.0 for bit in text.agrees) for text in known.texts]
    texts = (replace(text, log_probability=logs) for text, logs in zip(known.texts, sure, strict=True))
    write_trace(replayed[0], replace(known, texts=tuple(texts)))
    over = ("--over", "speculative.confidence_stop=null,0.1,0.5", "--over", "draft_length=4")
    done = specbench("replay", *replayed, *over, "--json")
    assert done.code == 0, done.err
    assert done.json["exact"] is False
    none, low, high = [row for row in done.json["rows"] if row["method"] == "speculative"]
    # Wrong tokens have a probability of 0.14, so that 0.5 ends every draft behind them.
    assert none["acceptance_rate"] == low["acceptance_rate"] < high["acceptance_rate"]
    assert none["acceptance_length"] == high["acceptance_length"]
    assert none["ms_per_token"] > high["ms_per_token"]
    shown = " ".join(specbench("replay", *replayed, *over).out.split())
    assert "approximate: where confidence_stop ends a draft behind a wrong token is not in the trace" in shown
    refused = specbench("replay", *replayed, *over, "--method", "prompt_lookup")
    assert (refused.code, "confidence_stop is not supported by prompt_lookup" in refused.err) == (2, True)
    refused = specbench("replay", *replayed, "--over", "confidence_stop=2")
    assert (refused.code, "confidence_stop: 2 is refused" in refused.err) == (ExitCode.PROFILE, True)


@pytest.mark.parametrize("method", [PromptLookup(), SuffixDecoding(), HfAssisted()], ids=lambda each: each.name)
def test_methods_whose_drafts_have_no_probability_refuse_it(method):
    with pytest.raises(SpecbenchError, match="confidence_stop is not supported by") as caught:
        method.validate(options_of(0.5, draft_length=4))
    assert caught.value.hint == "add --set speculative.confidence_stop=null"


def test_a_run_says_that_nothing_is_predicted_of_it(specbench, profile):
    path = profile(speculative={"confidence_stop": 0.5})
    done = specbench("run", "speculative", "--profile", path, "--json")
    assert done.code == 0, done.err
    assert "confidence_stop changed the draft length" in " ".join(done.json["notes"])
