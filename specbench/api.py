"""The only module that a plugin imports.

A method is a class with a name, registered by a hook:

    from specbench.api import Decoder, Method, hookimpl

    class Mine(Method):
        name = "mine"
        api_version = 3
        roles = ("cloud",)
        ...

    @hookimpl
    def specbench_method() -> Method:
        return Mine()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import pluggy

from specbench.clock import now_ms
from specbench.config import Decoding, Options, Speculative
from specbench.decoding.ahead import AheadWindow
from specbench.decoding.lengths import DraftLengths
from specbench.decoding.proposal import DraftDistribution, Proposal
from specbench.decoding.request import Commit, Pending, Request
from specbench.decoding.verification import RULES
from specbench.errors import CloudLostError, ExitCode, SpecbenchError
from specbench.factories import CloudModel, EdgeModel
from specbench.records import Round

if TYPE_CHECKING:
    from specbench.decoding.drafter import Drafter
    from specbench.decoding.target import Target

__all__ = [
    "API_VERSION",
    "RULES",
    "AheadWindow",
    "AutoregressiveDecoder",
    "CloudLostError",
    "CloudModel",
    "Commit",
    "Decoder",
    "Decoding",
    "DraftDistribution",
    "DraftLengths",
    "Drafter",
    "EdgeModel",
    "ExitCode",
    "Method",
    "Options",
    "Pending",
    "Proposal",
    "Request",
    "Round",
    "SpecbenchError",
    "Speculative",
    "Target",
    "hookimpl",
    "now_ms",
]

API_VERSION = 3
"""Raised when a plugin that worked before may no longer work."""

hookimpl = pluggy.HookimplMarker("specbench")


def __getattr__(name: str) -> object:
    """The classes that bring torch, imported when a plugin asks for them."""
    if name == "Drafter":
        from specbench.decoding.drafter import Drafter

        return Drafter
    if name == "Target":
        from specbench.decoding.target import Target

        return Target
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Decoder(ABC):
    """A method with its models loaded; answers one request after the other, and carries nothing over.

    Attributes:
        runs_on: it computes on while a round that it yielded is looked at, as a stream from a server does. The
            runner then leaves its own work between rounds on the clock, for the next round was on its way
            meanwhile. A decoder that waits to be asked for the next round does not run on.
    """

    runs_on: bool = False

    @abstractmethod
    def generate(self, request: Request) -> Iterator[Round]:
        """Yield a `Round` each time tokens are committed; the runner owns the clock.

        The first round commits the first token (or chunk). Ids are Python ints, none of them behind a
        stop token or beyond the budget.
        """

    def check(self) -> None:
        """Assert what must hold between rounds, such as cache lengths; called off the clock."""


class AutoregressiveDecoder(Decoder):
    """One model alone, a token a round, through the loop that verification uses too."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.runs_on = target.streams

    def generate(self, request: Request) -> Iterator[Round]:
        """Prefill, then single steps."""
        commit = self._target.begin(request)
        yield commit.round()
        if commit.finish_reason is None:
            for commit in self._target.decode():
                yield commit.round()

    def check(self) -> None:
        """The cache's length."""
        self._target.check()


class Method(ABC):
    """A way to decode. Stateless: what it needs it receives in `open`.

    Attributes:
        name: what `specbench run` calls it.
        summary: one line for `specbench plugins`.
        roles: the models that it loads, of `edge` and `cloud`.
        api_version: the `API_VERSION` that it was written for, as a number, for the name would always be
            right; a method that does not say is of version 3.
        own_passes: its passes are calls of the models themselves, as in `model.generate`, and not the engine's:
            they run eagerly, whatever `engine.kind` says. Its row says so.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    roles: ClassVar[tuple[str, ...]]
    api_version: ClassVar[int] = 3  # and not API_VERSION, which would guard nothing
    own_passes: ClassVar[bool] = False

    def lossless(self, options: Options) -> bool | None:
        """Whether the text is that of the cloud alone; `None` where the cloud has no part in it."""
        return None

    def repeats_control(self, options: Options) -> bool:
        """Whether the text is the control's token for token, and a difference a tie or a bug."""
        return bool(self.lossless(options)) and options.decoding.temperature == 0

    def validate(self, options: Options) -> None:
        """Refuse options that this method cannot honour; called before anything is loaded.

        Raises:
            SpecbenchError: naming the option.
        """
        return

    def precision_changes(self, options: Options) -> dict[str, str]:
        """Roles whose precision these options change, and what they become: `{"edge": "bfloat16"}`.

        A method that computes in something else than the profile's `dtype` says so here, so that
        `specbench check-dtype` shows it and a run refuses it before anything is loaded.
        """
        return {}

    @abstractmethod
    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load what the method uses, and nothing else."""
