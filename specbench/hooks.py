"""The hook that a plugin implements."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from specbench.api import Method

hookspec = pluggy.HookspecMarker("specbench")


@hookspec
def specbench_method() -> Method | Sequence[Method]:
    """Return the method that this plugin brings, or several in a list."""
    raise NotImplementedError  # pluggy calls the plugins'
