"""A method with a window of its own, so that a grid can vary how many proposals are in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from specbench.api import CloudModel, Decoder, EdgeModel, Method, Options, Speculative, SpeculativeMethod
from specbench.profile.loading import validated

WINDOW = "window"


class Windowed(Method):
    """Another method with this `speculative.window`, whatever the options say."""

    api_version = 4

    def __init__(self, method: Method, window: object) -> None:
        self.name, self.summary, self.roles = method.name, method.summary, method.roles
        self.keeps_costs = method.keeps_costs
        self._method = method
        self._window = validated(Speculative, {WINDOW: window}, "the replay").window

    def _told(self, options: Options) -> Options:
        speculative = options.speculative.model_copy(update={WINDOW: self._window})
        return replace(options, speculative=speculative)

    def depends_on_time(self, options: Options) -> bool:
        """As the method with this window."""
        return self._method.depends_on_time(self._told(options))

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """The method's decoder with this window."""
        return self._method.open(edge, cloud, self._told(options))


@lru_cache(maxsize=256)
def windowed(method: Method, window: object) -> Method:
    """The method with a window; itself where that is the usual one, of one proposal."""
    return method if window == 1 else Windowed(method, window)


def windows(methods: Sequence[Method], window: object) -> list[Method]:
    """The methods that know this window, each with it."""
    return [windowed(method, window) for method in methods if window == 1 or takes_window(method)]


def takes_window(method: Method) -> bool:
    """Whether a method can have several proposals in flight."""
    return isinstance(method, SpeculativeMethod) and method.takes_window
