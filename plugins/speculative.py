"""Speculative decoding: the edge drafts, the cloud verifies in one pass, both roll back what was refused."""

from __future__ import annotations

from specbench.api import Method, SpeculativeMethod, hookimpl


class SpeculativeDecoding(SpeculativeMethod):
    """Leviathan et al. 2023 and Chen et al. 2023, with the draft on an edge device.

    Where the profile has a gate, a draft that is certain of all its tokens is committed unverified.
    """

    name = "speculative"
    summary = "the edge drafts, the cloud verifies"
    api_version = 4
    takes_confidence_stop = True
    takes_gate = True
    takes_text = True
    takes_window = True


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeDecoding()
