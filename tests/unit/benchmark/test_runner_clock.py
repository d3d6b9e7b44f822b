"""What of the runner's own work between two rounds counts as the method's time: nothing, for any kind."""

import pytest
from specbench.plugins.cloud_baseline import CloudBaseline
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline
from specbench.plugins.hf_assisted import HfAssisted
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_pipelined import SpeculativePipelined

from specbench.api import CloudModel, Decoder, Decoding, EdgeModel, Options, Request, Round, Speculative
from specbench.benchmark import answering
from specbench.benchmark.answering import Answering
from specbench.profile import CloudSpec, EdgeSpec
from specbench.speculation import assisted

PASS_MS, DRAFT_MS, LOOK_MS = 10, 1, 7
TOKENS = 4
REQUEST = Request(tuple(range(20, 30)), TOKENS, frozenset())
GREEDY = Options(Decoding(), Speculative())
HERE = [CloudOptimizedBaseline(), CloudBaseline(), HfAssisted(), SpeculativeDecoding(), SpeculativePipelined()]


class Clock:
    """Stands still, but for passes of the models and for what the runner does between rounds."""

    def __init__(self):
        self.now = self.looked = 0.0

    def pass_ms(self, ms):
        self.now += ms

    def look(self):
        self.now += LOOK_MS
        self.looked += LOOK_MS


class Nothing(Decoder):
    """Commits a token a round and takes no time."""

    def generate(self, request):
        for _ in range(request.max_new_tokens):
            yield Round(tokens=(5,))


class ServersStream(Decoder):
    """A server's stream: each token arrives so long after the one before it, whether anybody reads or not."""

    runs_on = True

    def __init__(self, clock):
        self._clock = clock

    def generate(self, request):
        for index in range(request.max_new_tokens):
            self._clock.now = max(self._clock.now, (index + 1) * PASS_MS)
            yield Round(tokens=(5,))


def answered(clock, monkeypatch, decoder):
    """Rounds and arrivals of one request, as the runner times them by this clock."""
    for module in (answering, assisted):
        monkeypatch.setattr(module, "now_ms", lambda: clock.now)
    one = Answering(decoder, REQUEST, lambda part, step_ms: clock.look(), check_cache=True)
    one.run()
    return one.rounds, one.arrival_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pair(models, clock):
    """The tiny pair; a pass of the target takes ten milliseconds of the clock, one of the draft one."""
    edge = EdgeModel(EdgeSpec(model=str(models / "draft")))
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    for factory, ms in ((edge, DRAFT_MS), (cloud, PASS_MS)):
        factory.engine.loaded.model.register_forward_hook(lambda *_, ms=ms: clock.pass_ms(ms))
    return edge, cloud


@pytest.mark.parametrize("method", HERE, ids=lambda method: method.name)
def test_what_the_runner_does_between_rounds_is_on_no_methods_clock(monkeypatch, clock, pair, method):
    decoder = method.open(*pair, GREEDY)
    opened = clock.now
    rounds, arrivals = answered(clock, monkeypatch, decoder)
    assert clock.looked >= LOOK_MS * len(rounds)
    assert arrivals[-1] == clock.now - opened - clock.looked, "all time is the models' or the runner's"


def test_a_method_that_does_nothing_takes_no_time(monkeypatch, clock):
    _, arrivals = answered(clock, monkeypatch, Nothing())
    assert arrivals == [0] * TOKENS
    assert clock.looked > 0


def test_a_servers_stream_flows_while_a_round_is_looked_at(monkeypatch, clock):
    _, arrivals = answered(clock, monkeypatch, ServersStream(clock))
    assert arrivals == [PASS_MS * (index + 1) for index in range(TOKENS)]


def test_a_step_of_generate_begins_when_it_is_asked_for(pair, clock):
    decoder = CloudBaseline().open(*pair, GREEDY)
    for index, _ in enumerate(decoder.generate(REQUEST)):
        assert clock.now == PASS_MS * (index + 1)


def test_a_draft_of_assisted_generation_does_not_begin_before_its_block_is_asked_for(monkeypatch, clock, pair):
    rounds, _ = answered(clock, monkeypatch, HfAssisted().open(*pair, GREEDY))
    assert len(rounds) > 1
    for part in rounds[1:]:
        assert part.draft_ms <= DRAFT_MS * (part.drafted + 1), "and no look in it"
        assert part.verify_ms == PASS_MS
