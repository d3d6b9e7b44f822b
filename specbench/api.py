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
from specbench.cloud import CloudModel, EdgeModel
from specbench.errors import CloudLostError, ExitCode, SpecbenchError
from specbench.method import API_VERSION, Method, SpeculativeMethod
from specbench.profile import Decoding, Options, Part, Speculative
from specbench.results.records import Round
from specbench.speculation.ahead import AheadWindow
from specbench.speculation.cheapest_tree import cheapest_tree
from specbench.speculation.decoder import AutoregressiveDecoder, Decoder, SpeculativeDecoder
from specbench.speculation.draft_length import DraftLengths
from specbench.speculation.features import FeatureDtype, Features
from specbench.speculation.lookup_drafter import LookupDrafter
from specbench.speculation.loop import (
    AheadDrafter,
    AheadLoop,
    Drafter,
    DraftModel,
    FeatureDrafter,
    SpeculativeLoop,
    Target,
    TargetReader,
)
from specbench.speculation.proposal import MOST_NODES, DraftDistribution, Proposal
from specbench.speculation.request import Needs, Pending, Request, TopIds
from specbench.speculation.rules import RULES, TREE_RULES
from specbench.speculation.suffix import MinMatch, SuffixDrafter, SuffixSettings
from specbench.speculation.switching import adaptive_loop
from specbench.speculation.window import WindowLoop

__all__ = [
    "API_VERSION",
    "MOST_NODES",
    "RULES",
    "TREE_RULES",
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
    "DraftModel",
    "Drafter",
    "EdgeModel",
    "ExitCode",
    "FeatureDrafter",
    "FeatureDtype",
    "Features",
    "LookupDrafter",
    "Method",
    "MinMatch",
    "Needs",
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
    "SuffixDrafter",
    "SuffixSettings",
    "Target",
    "TargetReader",
    "TopIds",
    "WindowLoop",
    "adaptive_loop",
    "cheapest_tree",
    "hookimpl",
    "now_ms",
]

hookimpl = pluggy.HookimplMarker("specbench")
