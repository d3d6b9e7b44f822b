"""What was done for the tokens that a method yields: passes of the model, and frames that came for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbench.api import Method, Round
from specbench.benchmark.failing import reason_of
from specbench.benchmark.other_models import ModelWatch
from specbench.benchmark.preparation import Prepared
from specbench.results.provenance import Work
from specbench.results.records import CONTROL, Manifest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _Counts:
    """Counters of a moment: by role what was computed here, and what came from the cloud.

    Args:
        passes: made by the engine.
        calls: of the model itself, whoever made them.
        is_eager: each pass of the engine is such a call.
    """

    passes: dict[str, int]
    calls: dict[str, int]
    is_eager: dict[str, bool]
    answers: int | None


class WorkWatch:
    """Holds the rounds of every method against the passes that were made and the frames that came for them.

    A round whose tokens the target looked at takes a pass of its model, and a frame where there is a link. A
    method without them has its tokens from somewhere else, and what it took to make them was not measured.
    Between the rounds of an answer this costs an addition for each pass.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._methods = {method.name: method for method in prepared.methods}
        self._counters: dict[str, _Counter] = {}
        self._done: dict[str, Work] = {}
        self.models = ModelWatch(prepared)

    def begin(self) -> None:
        """An answer begins."""
        self._before = self._now()

    def end(self, name: str, rounds: Sequence[Round]) -> None:
        """An answer has ended; add up what was done for it."""
        now, before, method = self._now(), self._before, self._methods[name]
        beside = {}
        for role, calls in now.calls.items():
            made = now.passes[role] - before.passes.get(role, 0) if now.is_eager[role] else 0
            beside[role] = max(calls - before.calls.get(role, 0) - made, 0)
        decides = deciding_role(method)
        passes = answers = None
        if decides in now.passes:
            passes = now.passes[decides] - before.passes.get(decides, 0)
        if decides == "cloud" and now.answers is not None:
            answers = now.answers - (before.answers or 0)
        seen = [part for part in rounds if len(part.tokens) > (part.unverified or 0)]
        judged, needed = len(seen), _passes_needed(seen)
        enough = None if passes is None else passes + (beside[decides] if method.own_passes else 0)
        work = Work(
            rounds=judged,
            passes=passes,
            answers=answers,
            beside_engine=sum(beside.values()),
            without_pass=0 if enough is None else max(needed - enough, 0),
            without_answer=0 if answers is None else max(judged - answers, 0),
            uncompiled=0
            if method.own_passes
            else sum(calls for role, calls in beside.items() if not now.is_eager[role]),
        )
        is_first = name not in self._done
        self._done[name] = work if is_first else self._done[name].and_also(work)
        if is_first:
            self.models.look(name)

    def ended(self, manifest: Manifest) -> Manifest:
        """Stop counting; the manifest with what was counted, in earlier sittings too."""
        try:
            self.models.look(None)
        except Exception as error:  # strangers' modules: whatever they do, what was measured is kept
            reason = f"the models in the process could not be looked at: {reason_of(error)}"
            manifest = replace(manifest, unchecked=(*manifest.unchecked, reason))
        for counter in self._counters.values():
            counter.close()
        work = dict(manifest.work)
        for name, done in self._done.items():
            work[name] = work[name].and_also(done) if name in work else done
        found = tuple(dict.fromkeys([*manifest.other_models, *self.models.found]))
        manifest = replace(manifest, work=work, other_models=found)
        unverified = {name: tuple(_reasons(manifest, self._methods[name])) for name in manifest.methods}
        return replace(manifest, unverified={name: reasons for name, reasons in unverified.items() if reasons})

    def _now(self) -> _Counts:
        found = _Counts({}, {}, {}, self._prepared.cloud.answers)
        for role in dict.fromkeys(("edge", "cloud", *self._prepared.roles)):
            factory = self._prepared.factory(role)
            if factory.is_here and factory.is_loaded:
                engine = factory.engine
                if role not in self._counters and engine.module is not None:
                    self._counters[role] = _Counter(engine.module)
                found.passes[role] = engine.passes
                found.calls[role] = self._counters[role].calls if role in self._counters else 0
                found.is_eager[role] = engine.kind == "eager"
        return found


def _passes_needed(rounds: Sequence[Round]) -> int:
    """One for each round, but for those whose proposals were in flight together and fit into one pass."""
    needed = room = 0
    for part in rounds:
        if part.pass_tokens == 0 and len(part.tokens) <= room:
            room -= len(part.tokens)
        else:
            needed, room = needed + 1, (part.pass_tokens or 0) - len(part.tokens)
    return needed


class _Counter:
    """Counts the calls of a model, by its engine or by anyone else."""

    def __init__(self, model: nn.Module) -> None:
        self.calls = 0
        self._hook = model.register_forward_pre_hook(self._called)

    def close(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()

    def _called(self, model: nn.Module, arguments: tuple) -> None:
        import torch

        if not torch.compiler.is_compiling():  # a model that is traced is not run
            self.calls += 1


def deciding_role(method: Method) -> str:
    """The model that says a method's text, or judges its drafts."""
    return "cloud" if "cloud" in method.roles else "edge"


def _reasons(manifest: Manifest, method: Method) -> list[str]:
    """Why the figures of a method are not verified, in sentences."""
    reasons = []
    work, role = manifest.work.get(method.name, Work()), deciding_role(method)
    if work.without_pass:
        beside = f" (models were called {work.beside_engine} times outside it)" if work.beside_engine else ""
        reasons.append(
            f"{work.without_pass} of {work.rounds} rounds committed tokens without a pass of the {role}'s "
            f"engine{beside}"
        )
    if work.without_answer:
        reasons.append(
            f"{work.without_answer} of {work.rounds} rounds committed tokens that no frame from the cloud "
            "delivered"
        )
    if work.uncompiled:
        reasons.append(
            f"models were called {work.uncompiled} times outside their compiled engine: these passes ran "
            "eagerly"
        )
    for model in manifest.other_models:
        if model.method == method.name:
            reasons.append(f"it loaded a model of its own, {model.in_words}: that was not checked")
        elif model.method is None and method.name != CONTROL:
            reasons.append(f"some method loaded a model of its own, {model.in_words}: that was not checked")
    return [*reasons, *manifest.unchecked] if method.name != CONTROL else reasons
