"""A method that chooses in each round writes the control's text, and is never much slower."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from builders import shaken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replays import drawn, prices, ranked
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_adaptive import SpeculativeAdaptive
from specbench.plugins.speculative_tree import SpeculativeTree

from specbench.api import AutoregressiveDecoder, EdgeModel, LookupDrafter, Options, Request
from specbench.cloud import LocalCloud
from specbench.cloud.linked import LinkedCloud
from specbench.errors import SpecbenchError
from specbench.forecast.replay import play, timed
from specbench.forecast.traced_drafter import Text
from specbench.forecast.varied import Varied, windowed
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Gate, LinkSpec, Speculative
from specbench.speculation.measured import Measured
from specbench.testing import answer, tiny_llama, tokens_of

ADAPTIVE, SPECULATIVE = SpeculativeAdaptive(), SpeculativeDecoding()
PROMPT = tuple(range(20, 50))
DRAFTS = ["stranger", "a near copy", "the target itself"]
quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    target = tiny_llama(folder / "target", seed=7)
    tiny_llama(folder / "stranger", seed=8, num_hidden_layers=1)
    near = shaken(folder / "near", target, by=0.1)
    folders = {"stranger": folder / "stranger", "a near copy": near, "the target itself": target}
    edges = {name: EdgeModel(EdgeSpec(model=str(path), dtype="float64")) for name, path in folders.items()}
    spec = CloudSpec(model=str(target), device="cpu", dtype="float64")
    far = LinkedCloud(spec, link=LinkSpec(rtt_ms=2))
    yield LocalCloud(spec), far, edges
    far.close()


@quickly
@given(
    draft=st.sampled_from(DRAFTS),
    is_far=st.booleans(),
    budget=st.integers(1, 60),
    stops=st.sets(st.integers(0, 95), max_size=4),
    temperature=st.sampled_from([0.0, 0.8]),
    seed=st.integers(0, 2**63 - 1),
)
def test_the_text_is_the_controls(pair, draft, is_far, budget, stops, temperature, seed):
    here, far, edges = pair
    rule = "coupled" if temperature else "greedy"
    options = Options(Decoding(temperature=temperature), Speculative(verification=rule))
    request = Request(PROMPT, budget, frozenset(stops), seed)
    rounds = answer(ADAPTIVE.open(edges[draft], far if is_far else here, options), request)
    assert tokens_of(rounds) == tokens_of(answer(AutoregressiveDecoder(here.target(options)), request))
    assert {part.choice for part in rounds[1:]} <= {"alone", "round", "window", "tree", "lookup"}


def test_a_text_that_is_given_up_leaves_no_stream_behind(pair):
    here, far, edges = pair
    options = Options(Decoding(), Speculative())
    decoder, request = ADAPTIVE.open(edges["stranger"], far, options), Request(PROMPT, 30, frozenset())
    for count in (1, 2, 4):
        rounds = decoder.generate(request)
        for _ in range(count):
            next(rounds)
        rounds.close()
        assert tokens_of(answer(decoder, request)) == tokens_of(
            answer(AutoregressiveDecoder(here.target(options)), request)
        )


def test_taking_over_a_verdict_is_time_of_the_draft(pair, monkeypatch):
    here, _, edges = pair
    commit = LookupDrafter.commit

    def slowly(*args):
        time.sleep(0.05)
        return commit(*args)

    monkeypatch.setattr(LookupDrafter, "commit", slowly)
    decoder = ADAPTIVE.open(edges["the target itself"], here, Options(Decoding(), Speculative()))
    rounds = answer(decoder, Request(PROMPT, 40, frozenset()))
    judged = [part for part in rounds[1:] if part.drafted]
    assert judged
    assert all(part.draft_ms >= 50 for part in judged)


def choices(text, **values):
    return [one.part.choice for one in play(text, prices(**values), ADAPTIVE, 4)][1:]


def test_a_good_draft_is_used_and_a_bad_one_is_not():
    good, bad = Text.of("1" * 80, 80, 10), Text.of("0" * 80, 80, 10)
    assert choices(good, link__rtt_ms=0.0)[-1] in ("round", "window")
    assert choices(good, link__rtt_ms=100.0)[-1] == "window"
    assert set(choices(bad, link__rtt_ms=100.0)) == {"alone"}
    assert choices(bad, link__rtt_ms=0.0).count("alone") > 60


FLAT, DEAR = {1: 20.0}, {1: 20.0, 2: 24.0}


@pytest.mark.parametrize("rtt_ms", [0.0, 5.0])
def test_trees_are_chosen_where_width_costs_nothing(rtt_ms):
    texts = [ranked(0.55, 80, seed) for seed in range(3)]
    values = {"link__rtt_ms": rtt_ms, "draft__read_ms": 0.0}
    flat, dear = ({**values, "verify_ms": verify_ms} for verify_ms in (FLAT, DEAR))

    def trees(values):
        return sum(choices(text, **values).count("tree") for text in texts)

    assert trees(flat) > 30
    assert trees(dear) < trees(flat) / 4
    fixed = [Varied(SpeculativeTree(), 1, {"nodes": nodes}) for nodes in (16, 63)]

    def total(method, length):
        return sum(timed(text, prices(**flat), method, length).decode_ms for text in texts)

    assert total(ADAPTIVE, 4) < 1.08 * min(total(method, length) for method in fixed for length in (3, 4, 5))
    chains = [replace(text, likely=()) for text in texts]
    assert total(ADAPTIVE, 4) < 0.9 * sum(timed(text, prices(**flat), ADAPTIVE, 4).decode_ms for text in chains)


@pytest.mark.parametrize("rule", ["greedy", "coupled", "rejection", "one_hot"])
def test_a_real_pair_takes_trees_where_all_passes_take_as_long_and_the_rule_judges_them(
    pair, rule, monkeypatch
):
    """In one process; over a link `test_hand_over` has trees sent into a stream."""
    here, _, edges = pair
    monkeypatch.setattr(Measured, "pass_ms", lambda *_: [0.0] + [100.0] * 66)
    monkeypatch.setattr(Measured, "alone_ms", lambda *_, **__: 100.0)
    options = Options(Decoding(temperature=0.0 if rule == "greedy" else 0.8), Speculative(verification=rule))
    request = Request(PROMPT, 60, frozenset(), 3)
    decoder = ADAPTIVE.open(edges["a near copy"], here, options)
    first, rounds = (answer(decoder, request) for _ in range(2))
    trees = [part for part in (*first, *rounds) if part.choice == "tree"]
    assert bool(trees) == (rule != "one_hot") == any(part.accepted for part in trees)
    assert all(part.depth or not part.drafted for part in trees)
    if rule in ("greedy", "coupled"):
        wanted = tokens_of(answer(AutoregressiveDecoder(here.target(options)), request))
        assert tokens_of(first) == tokens_of(rounds) == wanted


def test_a_target_that_reads_no_trees_is_asked_for_chains(pair, monkeypatch, caplog):
    here, _, edges = pair
    monkeypatch.setitem(vars(here.engine), "tree_obstacle", "its layers slide")
    caplog.set_level("INFO")
    options, request = Options(Decoding(), Speculative()), Request(PROMPT, 30, frozenset())
    rounds = answer(ADAPTIVE.open(edges["a near copy"], here, options), request)
    assert not any(part.choice == "tree" for part in rounds)
    assert "chooses no trees" in caplog.text
    assert "its layers slide" in caplog.text


def test_what_is_drafted_beside_a_stream_costs_no_time():
    bad = Text.of("0" * 80, 80, 10)
    adaptive = timed(bad, prices(link__rtt_ms=100.0), ADAPTIVE, 4)
    assert adaptive.decode_ms == pytest.approx(79 * 20.0)
    assert 10 < adaptive.wasted < 80


@pytest.mark.parametrize("rtt_ms", [50.0, 100.0, 200.0])
def test_no_time_is_lost_between_the_stream_and_the_first_verdict(rtt_ms):
    good = Text.of("1" * 80, 80, 10)
    played = play(good, prices(link__rtt_ms=rtt_ms), ADAPTIVE, 4)[1:]
    first = next(at for at, one in enumerate(played) if one.part.drafted is not None)
    gaps = [after.arrival_ms - before.arrival_ms for before, after in pairwise(played[: first + 1])]
    assert max(gaps) < 2 * 20.0 + 6


def totals(alpha, rtt_ms):
    """Of the method, of the cloud alone, and of the best fixed choice."""
    texts, table = [drawn(alpha, 96, seed) for seed in range(3)], prices(link__rtt_ms=rtt_ms)

    def all_of(method, length):
        return sum(timed(text, table, method, length).decode_ms for text in texts)

    sizes = [(1, 2), (1, 4), (2, 4), (8, 2), (8, 4)]
    fixed = min(all_of(windowed(SPECULATIVE, window), length) for window, length in sizes)
    return all_of(ADAPTIVE, 4), 3 * 95 * 20.0, fixed


@pytest.mark.parametrize("rtt_ms", [0.0, 20.0, 100.0, 200.0])
@pytest.mark.parametrize("alpha", [0.3, 0.55])
def test_a_weak_draft_costs_at_most_five_percent(alpha, rtt_ms):
    adaptive, alone, fixed = totals(alpha, rtt_ms)
    assert adaptive <= 1.05 * min(alone, fixed)


@pytest.mark.parametrize(("rtt_ms", "share"), [(0.0, 0.22), (20.0, 0.28), (100.0, 0.5)])
def test_a_good_draft_gains_most_of_what_the_best_fixed_choice_gains(rtt_ms, share):
    adaptive, alone, fixed = totals(0.97, rtt_ms)
    assert adaptive < share * alone
    assert alone - adaptive > 0.9 * (alone - fixed)


def test_nothing_is_carried_from_one_prompt_to_the_next():
    text, table = drawn(0.9, 60, 3), prices(link__rtt_ms=30.0)
    first, again = (timed(text, table, ADAPTIVE, 4) for _ in range(2))
    timed(drawn(0.1, 60, 4), table, ADAPTIVE, 4)
    assert first == again == timed(text, table, ADAPTIVE, 4)


def test_it_takes_any_window_and_draft_length_of_the_profile_and_no_gate():
    ADAPTIVE.validate(Options(Decoding(), Speculative(window=4, draft_length=8)))
    gate = Gate(measure="margin", threshold=0.5)
    with pytest.raises(SpecbenchError, match=r"speculative.gate is not supported by speculative_adaptive"):
        ADAPTIVE.validate(Options(Decoding(), Speculative(gate=gate)))
