"""Speculation with one proposal in flight: what windows are compared with, in the same run."""

from __future__ import annotations

from specbench.api import Method, Options, SpeculativeMethod, hookimpl


class SpeculativeSynchronous(SpeculativeMethod):
    """`speculative` with a window of 1, whatever window the profile has."""

    name = "speculative_synchronous"
    summary = "speculative with one proposal in flight, whatever the profile's window"
    api_version = 4
    takes_confidence_stop = True
    takes_gate = True

    def _demand_window(self, options: Options) -> None:
        """Any will do: the loop waits for each verdict."""


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeSynchronous()
