"""The hook that a plugin implements."""

from __future__ import annotations

import pluggy

from specbench.api import Method

hookspec = pluggy.HookspecMarker("specbench")


@hookspec
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
