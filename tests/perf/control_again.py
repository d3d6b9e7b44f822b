"""The control under another name: an A/A, whose speed-up is 1. By hand, on a quiet machine:

    specbench run control_again --plugin tests/perf/control_again.py --restarts 5 --limit 24 --name again

Its interval over restarts and prompts must include 1.
"""

from __future__ import annotations

from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline

from specbench.api import Method, hookimpl


class ControlAgain(CloudOptimizedBaseline):
    """The control, measured as any other method is."""

    name = "control_again"
    summary = "the control under another name"


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return ControlAgain()
