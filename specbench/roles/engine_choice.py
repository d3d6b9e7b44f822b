"""Which engine runs a model: compiled passes where profile, machine and model allow them, else eager ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbench.errors import ModelError
from specbench.profile import EngineSpec

if TYPE_CHECKING:
    from specbench.engine.compiled.engine import CompiledEngine
    from specbench.models.loading import LoadedModel

logger = logging.getLogger(__name__)

CAPTURED = "on a GPU its passes would be captured anew at every start; --set engine.kind=compiled does it"


@dataclass(frozen=True)
class Begun:
    """A model in memory, before any pass.

    Args:
        size: of the vocabulary that it speaks.
        compiled: the engine that has its program yet to load or to make; `None` where the model runs eagerly.
    """

    loaded: LoadedModel
    size: int
    compiled: CompiledEngine | None


@dataclass
class EngineChoice:
    """What a profile wants of one model, held against what machine and model allow.

    Args:
        role: of the model `model`, for what is said.
        wanted: the profile's `engine`.
        note: which engine it came to and why, where that is not what the profile names.
    """

    role: str
    model: str
    wanted: EngineSpec
    note: str = ""

    def begun(self, loaded: LoadedModel, make: Callable[[], CompiledEngine]) -> CompiledEngine | None:
        """The compiled engine, its program not loaded yet; `None`, with a line that says why, where none is.

        Raises:
            SpecbenchError: the profile wants batch invariance, and the model cannot be compiled.
        """
        if self.wanted.kind == "eager":
            return None
        if self.wanted.kind == "auto" and loaded.device.type != "cpu" and not self.wanted.batch_invariant:
            self._say(logging.INFO, f"eagerly: {CAPTURED}")
            return None
        return self._unless_refused(make)

    def compiled(self, begun: CompiledEngine | None) -> CompiledEngine | None:
        """The engine, its program loaded or made; `None`, with a line that says why, where that cannot be.

        Raises:
            SpecbenchError: the profile wants batch invariance, and the model cannot be compiled.
        """
        engine = begun and self._unless_refused(begun.compile)
        if engine and self.wanted.kind == "auto":
            self._say(logging.INFO, "compiled passes (engine.kind: auto)")
        return engine

    def _unless_refused(self, make: Callable[[], CompiledEngine]) -> CompiledEngine | None:
        from specbench.engine.compiled.layers import CannotCompileError

        try:
            return make()
        except CannotCompileError as error:
            if self.wanted.batch_invariant:
                raise ModelError(
                    f"the {self.role} model {self.model} cannot be batch-invariant: {error}",
                    "--set engine.batch_invariant=false, or another model",
                ) from error
            self._say(logging.WARNING, f"eagerly, for it cannot be compiled: {error}")
            return None

    def _say(self, level: int, how: str) -> None:
        self.note = f"the {self.role} model runs {how}"
        logger.log(level, self.note)
