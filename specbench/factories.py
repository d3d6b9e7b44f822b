"""EdgeModel and CloudModel: what a method receives. Nothing is read until it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from specbench.config import (
    CloudSpec,
    Decoding,
    EdgeSpec,
    EngineSpec,
    ModelSpec,
    Options,
    Speculative,
    load_profile,
)
from specbench.config.loading import validated
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from specbench.decoding.assisted import AssistedGeneration
    from specbench.decoding.drafter import Drafter
    from specbench.decoding.engine import Engine
    from specbench.decoding.request import Commit, Request
    from specbench.decoding.target import Target
    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary
    from specbench.records import Audit
    from specbench.wire.channel import Channel
    from specbench.wire.client import RemoteTarget
    from specbench.wire.connection import Connection
    from specbench.wire.protocol import Facts


def say_on_stderr(line: str) -> None:
    """Where a factory reports slow steps when nobody asked for them elsewhere."""
    print(line, file=sys.stderr, flush=True)


class ModelFactory:
    """One role's model: described at once, read from disk when first used.

    Args:
        spec: which model; the default profile's when absent.
        say: receives a line for each slow step (fetching, converting, loading, compiling).
        engine: what runs its passes; the eager engine when absent.
        fields: single fields of the spec, such as `dtype="float32"`.
    """

    role: ClassVar[str]
    _spec_type: ClassVar[type[ModelSpec]]

    def __init__(
        self,
        spec: ModelSpec | None = None,
        say: Callable[[str], None] = say_on_stderr,
        engine: EngineSpec | None = None,
        **fields: object,
    ) -> None:
        if spec is None:
            spec = getattr(load_profile("default"), self.role)
        self.spec = validated(self._spec_type, {**spec.model_dump(), **fields}, self.role) if fields else spec
        self._say = say
        self.engine_spec = engine or EngineSpec()

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
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "engine" in self.__dict__

    @cached_property
    def folder(self) -> Path:
        """Where configuration and tokenizer lie; fetched first if need be."""
        from specbench.models import files

        return files.locate(self.spec, self._say, weights=False)

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

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text."""
        from specbench.models.loading import stop_ids

        return stop_ids(self.folder, self.tokenizer)

    @property
    def draft_vocabulary(self) -> DraftVocabulary | None:
        """The model's own vocabulary, where it is not that of its tokenizer."""
        return None

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was made for, or `None` when its configuration does not say."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    @cached_property
    def engine(self) -> Engine:
        """The loaded model, ready for forward passes; its `kind` says which engine it really is.

        Raises:
            SpecbenchError: the model cannot be loaded, or cannot be made batch-invariant.
        """
        from specbench.models import files, vocabulary
        from specbench.models.loading import load_model

        folder = files.locate(self.spec, self._say, weights=True)
        self._say(f"loading the {self.role} model {self.spec.model} in {self.dtype}")
        loaded = self._prepared(load_model(folder, self.spec))
        own = self.draft_vocabulary
        size = own.target_size if own else vocabulary.size(self.tokenizer)
        return self._compiled(loaded, size) or self._eager(loaded, size)

    def load(self) -> None:
        """Load the model now."""
        _ = self.engine

    @property
    def engine_kind(self) -> str:
        """Which engine really runs the passes."""
        return self.engine.kind

    def _eager(self, loaded: LoadedModel, size: int) -> Engine:
        from specbench.decoding.eager import EagerEngine

        return EagerEngine(loaded, size, self.draft_vocabulary)

    def _compiled(self, loaded: LoadedModel, size: int) -> Engine | None:
        """The compiled engine where the profile asks for it and the model allows it."""
        wanted = self.engine_spec
        if wanted.kind != "compiled":
            return None
        from specbench.decoding.compiled import CannotCompileError, CompiledEngine

        try:
            return CompiledEngine(loaded, size, self.draft_vocabulary, wanted.batch_invariant, self._say)
        except CannotCompileError as error:
            if wanted.batch_invariant:
                raise SpecbenchError(
                    f"the {self.role} model {self.spec.model} cannot be batch-invariant: {error}",
                    "--set engine.batch_invariant=false, or another model",
                    ExitCode.MODEL,
                ) from error
            self._say(f"the {self.role} model runs eagerly, for it cannot be compiled: {error}")
            return None

    def _prepared(self, loaded: LoadedModel) -> LoadedModel:
        """What is done to a model between reading and using it."""
        return loaded

    def target(self, options: Options) -> Target:
        """This model as the one that decides the text: prefill, then steps or verifications."""
        from specbench.decoding.target import Target

        return Target(self.engine, options)

    def audit(self) -> Audit:
        """What precision the loaded model really has."""
        from specbench.audit import audit_model

        return audit_model(self.role, self.spec.model, self.engine, getattr(self.spec, "quantization", None))


class EdgeModel(ModelFactory):
    """The draft model, on the edge device."""

    role = "edge"
    _spec_type = EdgeSpec
    spec: EdgeSpec

    @cached_property
    def draft_vocabulary(self) -> DraftVocabulary | None:
        """The draft's own vocabulary, if the profile names its map.

        Raises:
            SpecbenchError: the map is missing, damaged, or not this draft's.
        """
        from specbench.models.vocabulary import DraftVocabulary

        if self.spec.vocab_map is None:
            return None
        size = self.config.get_text_config().vocab_size
        return DraftVocabulary.read(self.folder / Path(self.spec.vocab_map).expanduser(), size)

    def _prepared(self, loaded: LoadedModel) -> LoadedModel:
        if self.spec.quantization is None:
            return loaded
        from specbench.decoding.quantized import quantize

        self._say(f"quantising the edge model to {self.spec.quantization}")
        return quantize(loaded, self.spec.quantization)

    def demand_same_tokens(self, cloud: CloudModel) -> None:
        """Refuse a pair that speaks of different tokens.

        Raises:
            SpecbenchError: the vocabularies differ, or the draft's map was made for another target.
        """
        from specbench.models import vocabulary

        if self.draft_vocabulary:
            self.draft_vocabulary.demand_target(cloud.tokenizer)
        else:
            vocabulary.demand_equal(self.tokenizer, cloud.tokenizer)

    def drafter(self, options: Options) -> Drafter:
        """This model as one that proposes tokens.

        Raises:
            SpecbenchError: its cache cannot be rolled back.
        """
        from specbench.decoding.drafter import Drafter

        self.engine.require_rollback()
        return Drafter(self.engine, options)


class CloudModel(ModelFactory):
    """The target model, in the cloud: in this process, or behind a wire.

    Args:
        allow_tf32: the profile's `precision.allow_tf32`, for a process that is started to run the model.
    """

    role = "cloud"
    _spec_type = CloudSpec
    spec: CloudSpec

    def __init__(
        self,
        spec: CloudSpec | None = None,
        say: Callable[[str], None] = say_on_stderr,
        engine: EngineSpec | None = None,
        allow_tf32: bool = False,
        **fields: object,
    ) -> None:
        super().__init__(spec, say, engine, **fields)
        self._allow_tf32 = allow_tf32

    @property
    def is_here(self) -> bool:
        """Whether the weights are in this process."""
        return self.spec.placement == "in_process"

    @property
    def is_wired(self) -> bool:
        """Whether frames lie between edge and cloud."""
        return not self.is_here

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory, here or there."""
        if self.is_here:
            return super().is_loaded
        return "connection" in self.__dict__ and self.connection.is_open

    @cached_property
    def engine(self) -> Engine:
        """As of every model; a cloud elsewhere has none here.

        Raises:
            SpecbenchError: the model runs elsewhere, or as for every model.
        """
        if not self.is_here:
            raise SpecbenchError(
                f"this needs the cloud model in this process, and cloud.placement is {self.spec.placement}",
                "add --set cloud.placement=in_process",
            )
        return super().engine

    @cached_property
    def connection(self) -> Connection:
        """The wire to the cloud; nothing is sent before it is used."""
        from specbench.models import vocabulary
        from specbench.wire.connection import PATIENCE_S, Connection

        patience_s = None if self.spec.on_cloud_loss == "wait" else PATIENCE_S
        tokenizer = vocabulary.fingerprint(self.tokenizer)
        return Connection(self._connect, tokenizer, self._accept, self._say, patience_s)

    def load(self) -> None:
        """Load the model, or reach the cloud that has it."""
        if self.is_here:
            super().load()
        if self.is_wired:
            _ = self.connection.facts

    @property
    def engine_kind(self) -> str:
        """Which engine really runs the passes."""
        return super().engine_kind if self.is_here else self.connection.facts.engine

    @property
    def interruptions(self) -> int:
        """How often the cloud was lost so far."""
        return self.connection.interruptions if "connection" in self.__dict__ else 0

    def target(self, options: Options) -> Target | RemoteTarget:
        """This model as the one that decides the text: prefill, then steps or verifications."""
        return self._remote(options, rolls_back=False) if self.is_wired else super().target(options)

    def verifier(self, options: Options) -> Target | RemoteTarget:
        """This model as one that verifies drafts, which takes a cache that can be rolled back.

        Raises:
            SpecbenchError: its cache cannot be rolled back.
        """
        if self.is_wired:
            return self._remote(options, rolls_back=True)
        self.engine.require_rollback()
        return super().target(options)

    def generate(self, request: Request, decoding: Decoding) -> Iterator[Commit]:
        """The tokens of `model.generate`, one by one, streamed."""
        if self.is_wired:
            if decoding not in self._generators:
                self._generators[decoding] = self._remote(Options(decoding, Speculative()), rolls_back=False)
            return self._generators[decoding].generate(request)
        from specbench.decoding.generate import generate_commits

        return generate_commits(self.engine.loaded, request, decoding)

    def audit(self) -> Audit:
        """What precision the loaded model really has."""
        if self.is_here:
            return super().audit()
        from specbench.wire import protocol

        return self.connection.insist(protocol.AskAudit).frame.audit

    def close(self) -> None:
        """Hang up, and end what was started for this model."""
        if "connection" in self.__dict__:
            self.connection.close()
            del self.connection

    @cached_property
    def _generators(self) -> dict[Decoding, RemoteTarget]:
        return {}

    def _remote(self, options: Options, rolls_back: bool) -> RemoteTarget:
        from specbench.wire.client import RemoteTarget

        return RemoteTarget(self.connection, options, rolls_back)

    def _connect(self) -> Channel:
        raise NotImplementedError

    def _accept(self, facts: Facts) -> None:
        raise NotImplementedError

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> AssistedGeneration:
        """`model.generate(assistant_model=...)`, with the edge's model as its assistant.

        Args:
            dynamic: with transformers' own schedule, not the profile's draft length.

        Raises:
            SpecbenchError: an engine is not transformers' own.
        """
        from specbench.decoding.assisted import AssistedGeneration

        for model in (edge, self):
            if model.engine.kind != "eager":
                raise SpecbenchError(
                    f"assisted generation runs transformers' own passes, and the {model.role}'s engine is "
                    f"{model.engine.kind}",
                    "add --set engine.kind=eager",
                )
        return AssistedGeneration(
            self.engine.loaded, edge.engine.loaded, edge.draft_vocabulary, options, dynamic
        )
