"""What a method is: `Method` opens a decoder, and `SpeculativeMethod` is a drafter plus the shared loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, TypeVar, cast

from specbench.cloud import CloudModel, EdgeModel
from specbench.errors import SpecbenchError
from specbench.profile import Options, Part
from specbench.profile.loading import validated
from specbench.speculation.decoder import Decoder, SpeculativeDecoder
from specbench.speculation.loop import (
    AheadDrafter,
    AheadLoop,
    Drafter,
    FallbackDrafter,
    FeatureDrafter,
    SpeculativeLoop,
    TargetReader,
)
from specbench.speculation.request import Needs
from specbench.speculation.rules import RULES, TREE_RULES
from specbench.speculation.window import WindowLoop

PartT = TypeVar("PartT", bound=Part)

API_VERSION = 4
"""Raised when a plugin that worked before may no longer work."""


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
        needs_eager: it runs on transformers' own passes alone. With `engine.kind: auto` all methods of its run
            do, and a line says why.
        takes_media: it answers prompts with images and sounds: `Request.media` is read by the target, and by a
            draft that can. One that makes tokens of texts by itself, or reads the target's states, does not.
        keeps_costs: it keeps what things took, and nothing of a text, from one prompt to the next. So a replay
            answers each prompt once before it looks at the clock.
        settings: the method's own options, fields with type, default and `Field(description=...)`. The profile
            sets them below `methods.NAME`, and `self.own(options, Settings)` reads them.
    """

    name: str
    summary: str
    roles: tuple[str, ...]
    api_version: ClassVar[int] = 3  # and not API_VERSION, which would guard nothing
    own_passes: bool = False
    needs_eager: bool = False
    takes_media: bool = False
    keeps_costs: bool = False
    settings: ClassVar[type[Part]] = Part

    def own(self, options: Options, settings: type[PartT]) -> PartT:
        """The method's own options, with defaults for those that the profile does not set.

        Args:
            settings: the class that `self.settings` is.

        Raises:
            SpecbenchError: the profile sets an option that there is not, or gives one a wrong value.
        """
        return validated(settings, dict(options.methods.get(self.name, {})), f"methods.{self.name}")

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

    def helpers(self, options: Options) -> tuple[str, ...]:
        """The models of `edge.helpers` that it loads beside the edge's own, by name."""
        return ()

    def depends_on_time(self, options: Options) -> bool:
        """Whether what it does depends on how long things take; a replay then runs it at each price."""
        return True

    @abstractmethod
    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load what the method uses, and nothing else."""


class SpeculativeMethod(Method):
    """A drafter plus the loop that all such methods share; `drafter` is all that one has to bring.

    Attributes:
        rules: the verification rules that its drafts can be judged by.
        rules_reason: why the others cannot, as the end of a sentence.
        takes_gate: whether `speculative.gate` can ask it how sure a draft is.
        takes_window: whether its drafter goes on behind proposals in flight, as `speculative.window` asks for.
        takes_confidence_stop: whether its drafter follows `speculative.confidence_stop`.
        takes_synthetic: whether it learns from verdicts alone what is accepted, as
            `speculative.synthetic_acceptance` needs.
        takes_text: whether the edge's model may draft text (`speculative.cross_vocabulary: slem`).
        drafts_ahead: draft on while a verification is in flight; the drafter is an `AheadDrafter` then.
        drafts_trees: its proposals have `parents`; of `rules`, those that judge trees remain. Where that or
            `target_top_k` depends on the method's options, `needs` says so instead.
        target_top_k: how many of the target's likeliest next ids its drafter, a `TargetReader`, reads behind
            every token that the target judged.
        reads_features: its drafter is a `FeatureDrafter`, which reads hidden states of the target.
    """

    roles: tuple[str, ...] = ("edge", "cloud")
    takes_media = True
    rules: ClassVar[frozenset[str]] = frozenset(RULES)
    rules_reason: ClassVar[str] = ""
    takes_gate: ClassVar[bool] = False
    takes_window: ClassVar[bool] = False
    takes_confidence_stop: ClassVar[bool] = False
    takes_synthetic: ClassVar[bool] = True
    takes_text: ClassVar[bool] = False
    drafts_ahead: ClassVar[bool] = False
    drafts_trees: ClassVar[bool] = False
    target_top_k: ClassVar[int] = 0
    reads_features: ClassVar[bool] = False

    def needs(self, options: Options) -> Needs:
        """What these options ask of the target beyond chains."""
        return Needs(self.drafts_trees, self.target_top_k)

    def lossless(self, options: Options) -> bool:
        """As the verification rule is; a gate and synthetic acceptance never are."""
        speculative = options.speculative
        plain = speculative.gate is None and speculative.synthetic_acceptance is None
        return RULES[speculative.verification].lossless and plain

    def repeats_control(self, options: Options) -> bool:
        """With a lossless rule at temperature 0, and with shared noise at any."""
        rule = RULES[options.speculative.verification]
        return self.lossless(options) and (rule.repeats_control or options.decoding.temperature == 0)

    def validate(self, options: Options) -> None:
        """Refuse a rule, gate or confidence stop that this drafter does not know."""
        verification, temperature = options.speculative.verification, options.decoding.temperature
        judges = self.rules & TREE_RULES if self.needs(options).trees else self.rules
        sampling = next((name for name in ("rejection", "one_hot", "coupled") if name in judges), "greedy")
        if verification not in judges:
            other = "greedy" if temperature == 0 else sampling
            reason = self.rules_reason if verification not in self.rules else ", which drafts trees"
            raise SpecbenchError(
                f"speculative.verification: {verification} is not supported by {self.name}{reason}",
                f"add --set speculative.verification={other}",
            )
        if RULES[verification].needs_greedy and temperature > 0:
            raise SpecbenchError(
                f"speculative.verification: {verification} needs decoding.temperature: 0, not {temperature}",
                f"add --set decoding.temperature=0, or --set speculative.verification={sampling}",
            )
        if options.speculative.gate and not self.takes_gate:
            raise SpecbenchError(
                f"speculative.gate is not supported by {self.name}", "add --set speculative.gate=null"
            )
        if options.speculative.confidence_stop is not None and not self.takes_confidence_stop:
            raise SpecbenchError(
                f"speculative.confidence_stop is not supported by {self.name}",
                "add --set speculative.confidence_stop=null",
            )
        self._demand_window(options)
        self._demand_verdicts(options)

    def _demand_verdicts(self, options: Options) -> None:
        """Refuse synthetic acceptance where not verdicts on chains alone decide what is committed."""
        if options.speculative.synthetic_acceptance is None:
            return
        reason = None
        if not self.takes_synthetic:
            reason = f"{self.name}, which also guesses tokens of the target's own"
        elif self.needs(options).trees:
            reason = f"{self.name}, which drafts trees"
        elif options.speculative.gate:
            reason = "speculative.gate"
        if reason:
            raise SpecbenchError(
                f"speculative.synthetic_acceptance is not supported by {reason}",
                "add --set speculative.synthetic_acceptance=null",
            )

    def _demand_window(self, options: Options) -> None:
        window = options.speculative.window
        if window != 1 and (self.reads_features or not self.takes_window):
            raise SpecbenchError(
                f"speculative.window: {window} is not supported by {self.name}, which waits for every verdict",
                "add --set speculative.window=1, or run speculative",
            )
        if window != 1 and self.needs(options).trees:
            raise SpecbenchError(
                f"speculative.window: {window} is not supported by {self.name}, for nothing can follow a tree "
                "before its verdict",
                "add --set speculative.window=1",
            )
        if window != 1 and options.speculative.gate:
            raise SpecbenchError(
                f"speculative.window: {window} needs every proposal verified, and a gate lets some pass unseen",
                "add --set speculative.gate=null, or --set speculative.window=1",
            )

    def depends_on_time(self, options: Options) -> bool:
        """With `auto` lengths, and where drafting goes on until a verdict is there."""
        speculative = options.speculative
        goes_on = self.drafts_ahead or (self.takes_window and speculative.window != 1)
        return goes_on or speculative.draft_length == "auto"

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """What proposes tokens; the edge's model, unless a method brings its own."""
        if self.takes_text and edge.retokenizer:
            return edge.text_drafter(edge.retokenizer)
        return edge.drafter(options)

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load what the drafter uses, and the cloud model as its verifier."""
        drafter = self.drafter(edge, options)
        features = cast(FeatureDrafter, drafter).features if self.reads_features else None
        needs = replace(self.needs(options), features=features)
        target = cloud.verifier(options, needs)
        if needs.top_k or features:
            cast(TargetReader, drafter).target = target
        length, window = options.speculative.draft_length, options.speculative.window
        loop: SpeculativeLoop
        if self.takes_window and window != 1:
            loop = WindowLoop(drafter, target, length, window)
        elif self.drafts_ahead:
            loop = AheadLoop(cast(AheadDrafter, drafter), target, length)
        else:
            loop = SpeculativeLoop(drafter, target, length)
        fallback = drafter if cloud.goes_on_alone and isinstance(drafter, FallbackDrafter) else None
        return SpeculativeDecoder(drafter, target, loop, fallback)
