"""The only module that a plugin imports.

A method is a class with a name, registered by a hook:

    from specbench.api import Decoder, Method, hookimpl

    class Mine(Method):
        name = "mine"
        api_version = 4
        roles = ("cloud",)
        ...

    @hookimpl
    def specbench_method() -> Method:
        return Mine()
"""

from __future__ import annotations

import pluggy

from specbench.clock import now_ms
from specbench.config import Decoding, Options, Part, Speculative
from specbench.decoding.ahead import AheadWindow
from specbench.decoding.decoder import AutoregressiveDecoder, Decoder, SpeculativeDecoder
from specbench.decoding.lengths import DraftLengths
from specbench.decoding.loop import AheadDrafter, AheadLoop, Drafter, FeatureDrafter, SpeculativeLoop, Target
from specbench.decoding.proposal import DraftDistribution, Proposal
from specbench.decoding.request import Pending, Request
from specbench.decoding.verification import RULES
from specbench.errors import CloudLostError, ExitCode, SpecbenchError
from specbench.factories import CloudModel, EdgeModel
from specbench.method import API_VERSION, Method, SpeculativeMethod
from specbench.records import Round

__all__ = [
    "API_VERSION",
    "RULES",
    "AheadDrafter",
    "AheadLoop",
    "AheadWindow",
    "AutoregressiveDecoder",
    "CloudLostError",
    "CloudModel",
    "Decoder",
    "Decoding",
    "DraftDistribution",
    "DraftLengths",
    "Drafter",
    "EdgeModel",
    "ExitCode",
    "FeatureDrafter",
    "Method",
    "Options",
    "Part",
    "Pending",
    "Proposal",
    "Request",
    "Round",
    "SpecbenchError",
    "Speculative",
    "SpeculativeDecoder",
    "SpeculativeLoop",
    "SpeculativeMethod",
    "Target",
    "hookimpl",
    "now_ms",
]

hookimpl = pluggy.HookimplMarker("specbench")
