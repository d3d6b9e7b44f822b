"""Windows on the virtual clock: the rounds of a real run, and the times that a pipeline has."""

import pytest
from builders import shaken
from replays import drawn, prices
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.api import EdgeModel, Options, Request
from specbench.cloud.linked import LinkedCloud
from specbench.errors import SpecbenchError
from specbench.forecast.grid import grid
from specbench.forecast.over import replayed_over
from specbench.forecast.replay import play, replay
from specbench.forecast.traced_drafter import Text
from specbench.forecast.varied import windowed
from specbench.profile import CloudSpec, Decoding, EdgeSpec, LinkSpec, Speculative
from specbench.testing import answer, tiny_llama, tokens_of

SPECULATIVE = SpeculativeDecoding()
PROMPT = tuple(range(20, 50))
ALWAYS = Text.of("1" * 61, 61, 10)


def timed(text, window, length=4, **values):
    (found,) = replay([text], prices(**values), windowed(SPECULATIVE, window), length)
    return found


def outcomes(rounds):
    return [(len(part.tokens), part.drafted, part.accepted, part.epoch) for part in rounds[1:]]


@pytest.mark.parametrize("window", [2, 3, 8])
@pytest.mark.parametrize("by", [0.02, 0.1])
def test_a_replay_has_the_rounds_of_the_measured_run(tmp_path, window, by):
    target = tiny_llama(tmp_path / "target", seed=7)
    near = shaken(tmp_path / "near", target, by=by)
    spec = CloudSpec(model=str(target), device="cpu", dtype="float64")
    edge, far = (
        EdgeModel(EdgeSpec(model=str(near), dtype="float64")),
        LinkedCloud(spec, link=LinkSpec(rtt_ms=20)),
    )
    options = Options(Decoding(), Speculative(window=window, draft_length=3))
    measured = answer(SPECULATIVE.open(edge, far, options), Request(PROMPT, 60, frozenset()))
    far.close()
    tokens, drafter = tokens_of(measured), edge.drafter(options)
    agrees = "0"
    for at in range(1, len(tokens)):
        drafter.begin(Request((*PROMPT, *tokens[:at]), 2, frozenset()))
        agrees += "01"[drafter.propose(1).tokens[0] == tokens[at]]
    assert "0" in agrees[1:]
    text = Text.of(agrees, 60, len(PROMPT))
    played = play(text, prices(), windowed(SPECULATIVE, window), 3)
    assert outcomes([one.part for one in played]) == outcomes(measured)


def test_a_wide_window_hides_the_round_trip():
    # Drafting four tokens takes 8 ms, reading them 23, the way there and back 200. Passes are shared, so the
    # edge draws the pace.
    found = timed(ALWAYS, 32, link__rtt_ms=200.0)
    assert found.wasted == 0
    assert found.decode_ms < timed(ALWAYS, 1, link__rtt_ms=200.0).decode_ms / 5
    proposals, first_ms = 15, 8 + 200 + 23
    assert found.decode_ms == pytest.approx(first_ms + (proposals - 1) * 8, rel=0.1)


def test_proposals_that_wait_share_a_pass():
    rounds = [one.part for one in play(ALWAYS, prices(link__rtt_ms=200.0), windowed(SPECULATIVE, 8), 2)]
    widths = [part.pass_tokens for part in rounds[1:] if part.pass_tokens]
    assert max(widths) > 2
    assert sum(widths) == sum(part.drafted for part in rounds[1:]) + 1  # the bonus token at the end
    assert all(part.verify_ms == 0 for part in rounds[1:] if part.pass_tokens == 0)


def test_a_window_of_one_is_the_synchronous_loop():
    text = drawn(0.8, 60)
    assert timed(text, 1) == replay([text], prices(), "speculative", 4)[0]


def test_a_refusal_costs_the_target_nothing_for_what_arrives_behind_it():
    never = Text.of("0" * 40, 40, 10)
    far = {"link__rtt_ms": 100.0}
    one, four = timed(never, 1, **far), timed(never, 4, **far)
    assert four.wasted > 0
    # Each round finds the edge amid another proposal, of 8 ms, and nothing else is lost.
    assert four.decode_ms <= one.decode_ms + four.rounds * 8


@pytest.mark.parametrize("alpha", [0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("rtt_ms", [0.0, 20.0, 100.0])
def test_auto_is_nearly_the_best_window_of_the_length_and_wastes_less_than_the_widest(alpha, rtt_ms):
    texts = [drawn(alpha, 120, seed) for seed in range(4)]

    def all_of(window):
        found = replay(texts, prices(link__rtt_ms=rtt_ms), windowed(SPECULATIVE, window), 4)
        return sum(one.decode_ms for one in found), sum(one.wasted for one in found)

    fixed = {window: all_of(window) for window in (1, 2, 3, 4, 6, 8, 12, 16, 32)}
    took_ms, wasted = all_of("auto")
    assert took_ms <= 1.15 * min(ms for ms, _ in fixed.values())  # it begins anew with each text
    assert wasted <= fixed[32][1]


def test_a_grid_varies_the_window():
    over = replayed_over({"speculative.window": [1, 8, "auto"], "link.rtt_ms": [0, 100]})
    rows = list(grid([ALWAYS], prices().costs, ["speculative"], [4], over))
    found = {(row.condition["window"], row.condition["link.rtt_ms"]): row for row in rows if row.draft_length}
    assert len(found) == 6
    assert found[8, 100].speedup > 2 * found[1, 100].speedup
    assert found[8, 0].speedup > found[1, 0].speedup  # drafting and verifying overlap


def test_a_grid_refuses_a_window_that_a_method_does_not_know():
    with pytest.raises(SpecbenchError, match="another window than 1 is not supported by"):
        list(grid([ALWAYS], prices().costs, ["speculative_pipelined"], [4], {"window": [4]}))
    with pytest.raises(SpecbenchError, match="from 1 to 32, or auto"):
        list(grid([ALWAYS], prices().costs, ["speculative"], [4], {"window": [0]}))
