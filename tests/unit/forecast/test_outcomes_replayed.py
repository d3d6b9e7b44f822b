"""Drafting ahead for several outcomes on the virtual clock: the rounds of a real run, and what they save."""

from dataclasses import replace

import pytest
from builders import shaken
from far import FarCloud
from replays import prices, trace
from specbench.plugins.speculative_ahead import SpeculativeAhead

from specbench.api import EdgeModel, Options, Request
from specbench.errors import SpecbenchError
from specbench.forecast.replay import play, replay
from specbench.forecast.traced_drafter import UNLISTED, Text, texts_of
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.testing import answer, tiny_llama, tokens_of

METHOD = SpeculativeAhead()
PROMPT = tuple(range(20, 50))
NEVER = Text.of("0" * 40, 40, 10)


def figures(rounds):
    return [
        (len(part.tokens), part.drafted, part.accepted, part.ready_draft_tokens, part.wasted_draft_tokens)
        for part in rounds[1:-1]
    ]


def test_a_replay_has_the_rounds_of_the_measured_run(tmp_path):
    target = tiny_llama(tmp_path / "target", seed=7)
    near = shaken(tmp_path / "near", target, by=0.1)
    edge, far = (
        EdgeModel(EdgeSpec(model=str(near), dtype="float64")),
        FarCloud(CloudSpec(model=str(target), device="cpu", dtype="float64")),
    )
    options = Options(Decoding(), Speculative(draft_length=3))
    measured = answer(METHOD.open(edge, far, options), Request(PROMPT, 80, frozenset()))
    tokens, drafter, likely = tokens_of(measured), edge.drafter(options), []
    for at in range(len(tokens)):
        drafter.begin(Request((*PROMPT, *tokens[:at]), 2, frozenset()))
        likely.append(tuple(zip(*drafter.top_k(96), strict=True)))
    bits = "".join("01"[ids[0] == token] for token, (ids, _) in zip(tokens, likely, strict=True))
    text = replace(Text.of(bits, 80, len(PROMPT)), tokens=tuple(tokens), likely=tuple(likely))
    assert len({text.rank(at) for at in range(len(tokens))}) > 3
    played = play(text, prices(link__rtt_ms=1e6), METHOD, 3)
    assert figures([one.part for one in played]) == figures(measured)
    assert any(ready for _, drafted, accepted, ready, _ in figures(measured) if accepted < drafted)


def test_a_caught_refusal_saves_the_drafting_of_the_next_proposal():
    second = tuple(((-1, token), (-0.7, -0.8)) for token in range(40))
    caught, missed = (replace(NEVER, likely=likely) for likely in (second, (((-1,), (-0.7,)),) * 40))
    first, second = (replay([text], prices(link__rtt_ms=100.0), METHOD, 4)[0] for text in (caught, missed))
    assert first.rounds == second.rounds
    # The last proposals are shorter.
    assert second.decode_ms - first.decode_ms == pytest.approx((first.rounds - 6) * 4 * 2.0, rel=0.1)


def test_what_a_trace_lists_decides_the_ranks():
    made = trace(count=1, tokens=3)
    top = (((0,), (-0.1,)), ((5, 1), (-0.7, -0.8)), ((7, 8), (-0.7, -0.8)))
    listed = replace(made, texts=(replace(made.texts[0], draft_top=top),))
    text = texts_of(listed)[0]
    assert [text.rank(position) for position in range(3)] == [0, 1, UNLISTED]
    assert texts_of(replace(listed, verification="coupled"))[0].likely == ()


def test_without_the_drafts_next_best_tokens_a_replay_is_refused():
    with pytest.raises(SpecbenchError, match="needs the draft's next-best tokens"):
        replay([NEVER], prices(), METHOD, 4)
