"""A method with a window and options of its own, so that a grid can vary them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from specbench.api import (
    CloudModel,
    Decoder,
    Decoding,
    Drafter,
    EdgeModel,
    Method,
    Options,
    SpecbenchError,
    Speculative,
    SpeculativeMethod,
)
from specbench.profile.loading import validated

WINDOW = "window"
OWN = "methods."
"""Begins the keys of options of a method's own: `methods.NAME.KEY`."""


class Varied(Method):
    """Another method with this `speculative.window` and these options of its own, whatever the options say.

    Two of the same method, window and options are equal.

    Args:
        window: in place of the usual one, where it is not 1.
        own: options by name.

    Raises:
        SpecbenchError: the method has no such option, or a value is none of it.
    """

    api_version = 4

    def __init__(self, method: Method, window: object, own: Mapping[str, object]) -> None:
        self.name, self.summary, self.roles = method.name, method.summary, method.roles
        self.method, self.keeps_costs = method, method.keeps_costs
        self._window = validated(Speculative, {WINDOW: window}, "the replay").window
        self._own = own
        method.own(self._told(Options(Decoding(), Speculative())), method.settings)

    @property
    def is_windowed(self) -> bool:
        """Whether several proposals can be in flight."""
        return self._window != 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Varied) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Method, object, str]:
        return self.method, self._window, repr(self._own)

    def _told(self, options: Options) -> Options:
        speculative = options.speculative.model_copy(update={WINDOW: self._window})
        return replace(options, speculative=speculative, methods={self.name: self._own})

    def depends_on_time(self, options: Options) -> bool:
        """As the method with this window and these options."""
        return self.method.depends_on_time(self._told(options))

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The drafter of the method, which has to have one."""
        return cast(SpeculativeMethod, self.method).drafter(edge, self._told(options))

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """The method's decoder with this window and these options."""
        return self.method.open(edge, cloud, self._told(options))


def windowed(method: Method, window: object) -> Method:
    """The method with a window; itself where that is the usual one, of one proposal."""
    return method if window == 1 else Varied(method, window, {})


def varied(methods: Sequence[Method], condition: Mapping[str, object]) -> list[Method]:
    """The methods that know the window of a condition, each with it and with those options that are its own."""
    window = condition.get(WINDOW, 1)
    found = []
    for method in methods:
        begin = f"{OWN}{method.name}."
        own = {key[len(begin) :]: value for key, value in condition.items() if key.startswith(begin)}
        if window == 1 or takes_window(method):
            found.append(Varied(method, window, own) if own else windowed(method, window))
    return found


def demand_own(methods: Sequence[Method], over: Mapping[str, Sequence[object]]) -> None:
    """Refuse options of a grid that none of the methods has.

    Raises:
        SpecbenchError: naming the key, and the value where that is wrong.
    """
    known = {method.name: method for method in methods}
    for key in over:
        if not key.startswith(OWN):
            continue
        name, _, option = key.removeprefix(OWN).partition(".")
        if not option:
            raise SpecbenchError(
                f"--over {key} names no option", f"for example {OWN}speculative_tree.nodes=8,16"
            )
        if name not in known:
            raise SpecbenchError(f"--over {key}: {name} is not among the methods", f"add --method {name}")
        for value in over[key]:
            Varied(known[name], 1, {option: value})


def takes_window(method: Method) -> bool:
    """Whether a method can have several proposals in flight."""
    return isinstance(method, SpeculativeMethod) and method.takes_window


def drafts(method: Method) -> bool:
    """Whether a method, or the one that it varies, has a drafter."""
    return isinstance(method.method if isinstance(method, Varied) else method, SpeculativeMethod)
