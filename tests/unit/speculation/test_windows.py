"""Several proposals in flight change when tokens come, and no token."""

import random

import pytest
from builders import shaken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_pipelined import SpeculativePipelined
from specbench.plugins.speculative_synchronous import SpeculativeSynchronous

from specbench.api import RULES, AutoregressiveDecoder, EdgeModel, Options, Request
from specbench.cloud import LocalCloud
from specbench.engine.batch import alone
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Gate, Speculative
from specbench.testing import answer, tiny_llama, tokens_of

DTYPE = "float64"
PROMPT = tuple(range(20, 50))
DRAFTS = ["stranger", "a near copy", "the target itself"]
WINDOWS = [2, 4, 8, "auto"]
SPECULATIVE = SpeculativeDecoding()
quickly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Queue:
    """A target that reads up to so many waiting proposals in one pass, and drops what a refusal makes void."""

    def __init__(self, target, together, is_slow):
        self._target, self._together, self._is_slow = target, together, is_slow
        self._waiting, self._ready, self.rtt_ms, self.dropped = [], [], 50.0, 0

    def __getattr__(self, name):
        return getattr(self._target, name)

    def submit(self, proposal):
        self._waiting.append(proposal)
        return self

    @property
    def is_done(self):
        return bool(self._ready) or not (self._is_slow() or len(self._waiting) > 8)

    def result(self):
        if not self._ready:
            group, self._waiting = self._waiting[: self._together], self._waiting[self._together :]
            self._ready = list(alone(self._target.verifying(*group)))
            if not group[len(self._ready) - 1].stands(self._ready[-1]):
                self.dropped += len(group) - len(self._ready) + len(self._waiting)
                self._waiting = []
        return self._ready.pop(0)


class QueueCloud(LocalCloud):
    """A cloud whose verifier is such a target."""

    together, is_slow = 1, staticmethod(lambda: True)

    def verifier(self, *asked):
        return Queue(super().verifier(*asked), self.together, self.is_slow)


@pytest.fixture(scope="module")
def factories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    tiny_llama(folder / "stranger", seed=8, num_hidden_layers=1)
    near = shaken(folder / "near", target, by=0.1)
    folders = {"stranger": folder / "stranger", "a near copy": near, "the target itself": target}
    drafts = {name: EdgeModel(EdgeSpec(model=str(path), dtype=DTYPE)) for name, path in folders.items()}
    return QueueCloud(CloudSpec(model=str(target), device="cpu", dtype=DTYPE)), drafts


def run(factories, draft, options, request, together=1, is_slow=lambda: True):
    cloud, drafts = factories
    cloud.together, cloud.is_slow = together, is_slow
    decoder = SPECULATIVE.open(drafts[draft], cloud, options)
    return answer(decoder, request), decoder._target.dropped


def control(factories, options, request):
    return tokens_of(answer(AutoregressiveDecoder(factories[0].target(options)), request))


def windowed(window, decoding=None, **fields):
    return Options(decoding or Decoding(), Speculative(window=window, **fields))


@quickly
@given(
    draft=st.sampled_from(DRAFTS),
    window=st.sampled_from([1, *WINDOWS]),
    draft_length=st.integers(1, 9) | st.just("auto"),
    together=st.integers(1, 4),
    budget=st.integers(1, 40),
    stops=st.sets(st.integers(0, 95), max_size=6),
    decoding=st.sampled_from(
        [
            Decoding(),
            Decoding(repetition_penalty=1.3),
            Decoding(temperature=0.8),
            Decoding(temperature=1.2, top_k=9),
            Decoding(presence_penalty=1.2, frequency_penalty=0.6, min_new_tokens=9),
            Decoding(temperature=0.9, min_p=0.1, logit_bias={30: 2.0}, frequency_penalty=0.8),
        ]
    ),
    seed=st.integers(0, 2**63 - 1),
)
def test_the_text_is_the_controls(
    factories, draft, window, draft_length, together, budget, stops, decoding, seed
):
    rule = "coupled" if decoding.temperature else "greedy"
    options = windowed(window, decoding, draft_length=draft_length, verification=rule)
    request, coin = Request(PROMPT, budget, frozenset(stops), seed), random.Random(seed)
    if window == 1:
        cloud, drafts = factories
        rounds = answer(SPECULATIVE.open(drafts[draft], LocalCloud(cloud.spec), options), request)
    else:
        rounds, _ = run(factories, draft, options, request, together, lambda: coin.random() < 0.7)
    assert tokens_of(rounds) == control(factories, options, request)
    for part in rounds[1:]:
        assert part.accepted <= part.drafted
        assert part.accepted <= len(part.tokens) <= part.accepted + 1


@pytest.mark.slow
@quickly
@given(
    rule=st.sampled_from(sorted(set(RULES) - {"greedy", "coupled"})),
    draft=st.sampled_from(DRAFTS),
    windows=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    together=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    draft_length=st.integers(1, 6),
    seed=st.integers(0, 2**63 - 1),
)
def test_no_rules_text_depends_on_how_far_ahead_the_draft_has_come(
    factories, rule, draft, windows, together, draft_length, seed
):
    request, coin = Request(PROMPT, 30, frozenset(), seed), random.Random(seed)
    first, second = (
        run(
            factories,
            draft,
            windowed(window, Decoding(temperature=0.9), verification=rule, draft_length=draft_length),
            request,
            most,
            lambda: coin.random() < 0.5,
        )[0]
        for window, most in zip(windows, together, strict=True)
    )
    assert [(part.tokens, part.drafted, part.accepted, part.epoch) for part in first] == [
        (part.tokens, part.drafted, part.accepted, part.epoch) for part in second
    ]


@pytest.mark.parametrize("together", [1, 3])
def test_a_draft_that_is_always_right_wastes_nothing_and_has_no_bonus_but_at_the_end(factories, together):
    rounds, dropped = run(
        factories, "the target itself", windowed(4), Request(PROMPT, 31, frozenset()), together
    )
    assert [len(part.tokens) for part in rounds] == [1, *[4] * 7, 2]
    assert [part.drafted for part in rounds[1:]] == [4] * 7 + [1]
    assert {part.epoch for part in rounds[1:]} == {0}
    assert sum(part.wasted_draft_tokens for part in rounds[1:]) == dropped == 0


@pytest.mark.parametrize("window", [2, 4, 8])
def test_a_refusal_drops_all_that_is_in_flight_behind_it(factories, window):
    rounds, dropped = run(factories, "stranger", windowed(window), Request(PROMPT, 80, frozenset()))
    refused = [part for part in rounds[1:20] if part.accepted < part.drafted]  # the budget ends far behind
    first = next(part for part in refused if not part.accepted)
    assert first.wasted_draft_tokens == 4 * (window - 1)
    wasted = sum(part.wasted_draft_tokens for part in rounds[1:])
    assert 0 < wasted <= 4 * dropped < 1.1 * wasted  # the last proposals are shorter
    assert [part.epoch for part in rounds[1:]] == sorted(part.epoch for part in rounds[1:])
    assert rounds[-1].epoch >= len(refused) - 1 > 5


def test_what_is_read_in_one_pass_has_its_time_once_and_its_waste(factories):
    rounds, _ = run(factories, "a near copy", windowed(4), Request(PROMPT, 300, frozenset()), together=4)
    first = [part for part in rounds[1:] if part.pass_tokens]
    others = [part for part in rounds[1:] if part.pass_tokens == 0]
    assert first
    assert others
    assert max(part.pass_tokens for part in first) in (16, 17)  # the last proposal gets its bonus token
    assert all(part.pass_ms for part in first)
    assert all(part.pass_ms is None for part in others)
    wasted = [part.wasted_verify_ms for part in rounds[1:] if part.wasted_verify_ms]
    assert wasted
    assert all(part.accepted < part.drafted for part in rounds[1:] if part.wasted_verify_ms)


def test_a_target_in_this_process_takes_a_window_too(factories):
    cloud, drafts = factories
    here = LocalCloud(cloud.spec)
    for draft in DRAFTS:
        decoder = SPECULATIVE.open(drafts[draft], here, windowed(4))
        assert decoder.runs_on
        for budget in (1, 2, 7, 40):
            request = Request(PROMPT, budget, frozenset())
            assert tokens_of(answer(decoder, request)) == control(factories, windowed(4), request)


@pytest.mark.parametrize("window", [1, 4, "auto"])
def test_the_synchronous_method_keeps_to_one_proposal_whatever_the_window(factories, window):
    cloud, drafts = factories
    method, options = SpeculativeSynchronous(), windowed(window)
    method.validate(options)
    assert not method.depends_on_time(options)
    request = Request(PROMPT, 40, frozenset())
    rounds, one = (
        answer(each.open(drafts["a near copy"], LocalCloud(cloud.spec), told), request)
        for each, told in ((method, options), (SPECULATIVE, windowed(1)))
    )
    assert [(part.tokens, part.drafted) for part in rounds] == [(part.tokens, part.drafted) for part in one]


def test_a_text_that_is_given_up_leaves_nothing_in_flight(factories):
    cloud, drafts = factories
    decoder = SPECULATIVE.open(drafts["a near copy"], LocalCloud(cloud.spec), windowed(8))
    request = Request(PROMPT, 40, frozenset())
    for count in (1, 2, 3):
        rounds = decoder.generate(request)
        for _ in range(count):
            next(rounds)
        rounds.close()
        assert tokens_of(answer(decoder, request)) == control(factories, windowed(8), request)


def test_a_method_without_windows_refuses_them_and_so_does_a_gate():
    with pytest.raises(SpecbenchError, match="window: 4 is not supported by speculative_pipelined"):
        SpeculativePipelined().validate(windowed(4))
    gate = Gate(measure="margin", threshold=0.5)
    with pytest.raises(SpecbenchError, match="needs every proposal verified"):
        SPECULATIVE.validate(windowed("auto", gate=gate))
    SPECULATIVE.validate(windowed(1, gate=gate))


@pytest.mark.parametrize("window", [0, 33, 2.0, "wide"])
def test_a_window_is_a_number_or_auto(window):
    with pytest.raises(ValueError, match="from 1 to 32, or auto"):
        Speculative(window=window)
