"""What of the runner's own work between two rounds counts as the method's time."""

from types import SimpleNamespace

import pytest

from specbench.api import Decoder, Request, Round
from specbench.bench import runner
from specbench.config import EngineSpec


class Clock:
    now = 0.0

    def pass_ms(self, ms):
        self.now += ms


class Decodes(Decoder):
    """Three tokens, ten milliseconds each; looking at one takes seven."""

    def __init__(self, clock, runs_on):
        self._clock, self.runs_on = clock, runs_on

    def generate(self, request):
        for _ in range(request.max_new_tokens):
            self._clock.pass_ms(10)
            yield Round(tokens=(5,))

    def check(self):
        self._clock.pass_ms(7)


@pytest.mark.parametrize(("runs_on", "arrivals"), [(False, [10, 20, 30]), (True, [10, 27, 44])])
def test_a_look_at_a_round_is_off_the_clock_unless_the_method_runs_on_meanwhile(monkeypatch, runs_on, arrivals):
    clock = Clock()
    monkeypatch.setattr(runner, "now_ms", lambda: clock.now)
    one = object.__new__(runner.Runner)
    one._decoders = {"m": Decodes(clock, runs_on)}
    one._profile = SimpleNamespace(engine=EngineSpec(check_cache=True))
    one._precision = SimpleNamespace(look=lambda name, prompt_id: None)
    one._count = lambda name, part, arrival_ms: None
    _, arrival_ms = one._answer("m", Request((5, 6), 3, frozenset()), "1")
    assert arrival_ms == arrivals
