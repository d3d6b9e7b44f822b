"""One role's model: described at once, read from disk when first used."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from specbench.profile import EngineSpec, ModelSpec, Options, load_profile
from specbench.profile.loading import validated

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from specbench.engine.bandwidth import CeilingMeter
    from specbench.engine.base import Engine
    from specbench.engine.compiled.engine import CompiledEngine
    from specbench.models.loading import LoadedModel
    from specbench.models.media import MediaReader
    from specbench.models.memory import MemoryEstimate
    from specbench.models.vocabulary import DraftVocabulary
    from specbench.results.ceilings import Ceiling
    from specbench.results.records import Audit
    from specbench.roles.engine_choice import Begun, EngineChoice
    from specbench.speculation.request import Needs
    from specbench.speculation.target import LocalTarget

logger = logging.getLogger(__name__)


class ModelFactory:
    """One role's model: described at once, read from disk when first used.

    Args:
        spec: which model; the default profile's when neither it nor `model` is given.
        engine: what runs its passes; the eager engine when absent.
        fields: single fields of the spec, such as `dtype="float32"`.
    """

    role: str
    _spec_type: ClassVar[type[ModelSpec]]

    def __init__(
        self, spec: ModelSpec | None = None, engine: EngineSpec | None = None, **fields: object
    ) -> None:
        if spec is None and "model" not in fields:
            spec = getattr(load_profile("default"), self.role)
        known = spec.model_dump() if spec else {}
        self.spec = spec if spec and not fields else validated(self._spec_type, {**known, **fields}, self.role)
        self.engine_spec = engine or EngineSpec(kind="eager")
        self._begun: Begun | None = None
        self._engine: Engine | None = None

    def __repr__(self) -> str:
        loaded = "loaded" if self.is_loaded else "not loaded"
        return f"{type(self).__name__}({self.spec.model}, {self.dtype}, {self.device}, {loaded})"

    @property
    def dtype(self) -> str:
        """The declared dtype, such as `float32`."""
        return self.spec.dtype

    @property
    def device(self) -> str:
        """The declared device; `auto` is resolved when the model is loaded."""
        return self.spec.device

    @property
    def is_here(self) -> bool:
        """Whether the model runs in this process."""
        return True

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory and passes can run."""
        return self._engine is not None

    @property
    def in_memory(self) -> LoadedModel | None:
        """What torch has in memory of it, whether passes can run yet or a program has still to be compiled."""
        if self._engine is not None:
            return self._engine.loaded if self._engine.module is not None else None
        return self._begun.loaded if self._begun else None

    @cached_property
    def folder(self) -> Path:
        """Where configuration and tokenizer lie, a folder or a GGUF file; fetched first if need be."""
        from specbench.models import files

        return files.locate(self.spec, weights=False)

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration, cut to the layers of the spec."""
        from specbench.models.loading import load_config

        return load_config(self.folder, self.spec)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that lies beside the weights."""
        from specbench.models.loading import load_tokenizer

        return load_tokenizer(self.folder, self.spec)

    @property
    def media_reader(self) -> MediaReader:
        """The processor that lies beside the weights."""
        from specbench.models.media import reader_of

        return reader_of(self.folder, self.spec.trust_remote_code)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text."""
        from specbench.models.stopping import stop_ids

        return stop_ids(self.folder, self.tokenizer)

    @property
    def draft_vocabulary(self) -> DraftVocabulary | None:
        """The model's own vocabulary, where it is not that of its tokenizer."""
        return None

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was made for, or `None` when its configuration does not say."""
        from specbench.models.context import context_length

        return context_length(self.config)

    @property
    def engine(self) -> Engine:
        """The loaded model, ready for forward passes; its `kind` says which engine it really is.

        Raises:
            SpecbenchError: the model cannot be loaded, cannot be made batch-invariant, or cannot decode.
        """
        if self._engine is None:
            self._engine = self._loaded_engine()
        return self._engine

    def begin(self) -> CompiledEngine | None:
        """Read the weights; returns the compiled engine whose program must be made before passes can run.

        Raises:
            SpecbenchError: as of `engine`.
        """
        if self._engine is None and self._begun is None:
            self._begun = self._begin()
        compiled = self._begun and self._begun.compiled
        return compiled if compiled and compiled.is_to_be_made else None

    def _begin(self) -> Begun:
        from specbench.models import files, vocabulary
        from specbench.models.loading import load_model
        from specbench.roles.engine_choice import Begun

        folder = files.locate(self.spec, weights=True)
        logger.info("loading the %s model %s in %s", self.role, self.spec.model, self.dtype)
        loaded = self._prepared(load_model(folder, self.spec))
        own = self.draft_vocabulary
        size = own.target_size if own else vocabulary.size(self.tokenizer)
        invariant = self.engine_spec.batch_invariant
        compiled = self._choice.begun(
            loaded, lambda: self.compiled_type(loaded, size, self.draft_vocabulary, invariant)
        )
        return Begun(loaded, size, compiled)

    def _loaded_engine(self) -> Engine:
        begun, self._begun = self._begun or self._begin(), None
        engine = self._choice.compiled(begun.compiled) or self._eager(begun.loaded, begun.size)
        engine.role = self.role
        self._demand_steps(engine)
        return engine

    def load(self) -> None:
        """Load the model now."""
        _ = self.engine

    @property
    def engine_kind(self) -> str:
        """Which engine really runs the passes."""
        return self.engine.kind

    @property
    def engine_note(self) -> str:
        """Which engine the model came to and why, where the profile does not decide it; of a loaded model."""
        return self._choice.note

    def ceiling(self) -> Ceiling | None:
        """What memory allows this model now, where it runs; never to be called on the clock."""
        return self._meter.ceiling()

    @property
    def measures_memory(self) -> bool:
        """Whether `ceiling` measures anew each time."""
        return True

    @cached_property
    def _meter(self) -> CeilingMeter:
        from specbench.engine.bandwidth import CeilingMeter

        return CeilingMeter(self.engine.weight_bytes, str(self.engine.loaded.device))

    def _eager(self, loaded: LoadedModel, size: int) -> Engine:
        from specbench.engine.eager import EagerEngine

        return EagerEngine(loaded, size, self.draft_vocabulary)

    @cached_property
    def _choice(self) -> EngineChoice:
        from specbench.roles.engine_choice import EngineChoice

        return EngineChoice(self.role, self.spec.model, self.engine_spec)

    @property
    def compiled_type(self) -> type[CompiledEngine]:
        """What runs the passes where they are compiled."""
        from specbench.engine.compiled.engine import CompiledEngine

        return CompiledEngine

    def _demand_steps(self, engine: Engine) -> None:
        """Refuse a model that does not decode token by token."""
        engine.require_steps()

    def _prepared(self, loaded: LoadedModel) -> LoadedModel:
        """What is done to a model between reading and using it."""
        return loaded

    def target_here(self, options: Options, needs: Needs | None = None) -> LocalTarget:
        """This model as the one that decides the text: prefill, then steps or verifications, all run here."""
        from specbench.speculation.target import LocalTarget

        return LocalTarget(self.engine, options, needs)

    @property
    def held_as(self) -> str:
        """What most of its weights are held as."""
        return getattr(self.spec, "quantization", None) or self.dtype

    def memory_estimate(self, context_tokens: int) -> MemoryEstimate:
        """What the model will take with a cache of so many tokens; reads no weights."""
        from specbench.models import memory

        quantization, drops = getattr(self.spec, "quantization", None), self.engine_spec.kind == "eager"
        return memory.estimate(self.config, self.dtype, context_tokens, quantization, drops)

    def audit(self) -> Audit:
        """What precision the loaded model really has."""
        from specbench.precision import audit_model

        return audit_model(self.role, self.spec.model, self.engine, getattr(self.spec, "quantization", None))
