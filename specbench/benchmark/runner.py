"""Runs methods over prompts, interleaved."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial

from specbench.api import CloudLostError, Decoder, Method, Options, Request, Round
from specbench.benchmark import conversation
from specbench.benchmark.answering import Answering, whether_complete
from specbench.benchmark.audits import PrecisionWatch
from specbench.benchmark.ceiling import CeilingWatch
from specbench.benchmark.compiling import compile_together
from specbench.benchmark.energy_watch import EnergyWatch
from specbench.benchmark.failing import failure_of
from specbench.benchmark.interruption import insisting
from specbench.benchmark.observer import Observer, Progress
from specbench.benchmark.preparation import Prepared
from specbench.benchmark.proof import hold
from specbench.benchmark.telemetry import MemoryMonitor
from specbench.benchmark.turns import Turns, in_order
from specbench.benchmark.work import WorkWatch
from specbench.errors import SpecbenchError, StoreError
from specbench.results.conditions import conditions
from specbench.results.records import CONTROL, Failure, Generation, Manifest, Prompt, Run
from specbench.results.store import RunWriter

logger = logging.getLogger(__name__)

WARMUP_TOKENS = 16


class Runner:
    """One run: prepared models and prompts, one decoder a method, one clock.

    Args:
        done: generations of earlier sittings, for `--resume`.
    """

    def __init__(
        self, prepared: Prepared, manifest: Manifest, writer: RunWriter, observer: Observer,
        done: Sequence[Generation] = (),
    ) -> None:  # fmt: skip
        self._prepared = prepared
        self._profile = prepared.profile
        self._manifest = replace(
            manifest,
            status="running",
            failures=(),
            divergences=(),
            recomputation=None,
            generations=None,
            unchecked=(),
        )
        self._writer = writer
        self._observer = observer
        self._generations = list(done)
        self._methods = {method.name: method for method in prepared.methods}
        self._decoders: dict[str, Decoder] = {}
        self._answering: Answering | None = None  # for whoever must say where a method stood
        self._failures: list[Failure] = []
        self._turns = Turns(prepared, manifest.refusals)
        self._precision = PrecisionWatch(self._profile, prepared.audit)

    def run(self) -> Run:
        """Open every method, warm up, measure, and check identity with the control.

        Ctrl-C and errors leave a manifest that says how far the run came, and all finished generations.

        Raises:
            SpecbenchError: bad input, a failed precision check, or a disk that cannot be written.
            KeyboardInterrupt: passed on once everything is stored.
        """
        status = "failed"
        self._work = WorkWatch(self._prepared)
        try:
            compile_together(self._prepared)
            self._open()
            self._record_engines()
            self._begin_ceilings()
            self._manifest = self._precision.begin(self._manifest)
            self._writer.write_manifest(self._manifest)
            # The models are here to stay: collecting them again and again would only disturb the clock.
            gc.collect()
            gc.freeze()
            self._energy = EnergyWatch(self._prepared)
            try:
                with MemoryMonitor(self._profile.memory.monitor_interval_ms) as monitor, self._energy:
                    self._measure(monitor)
            except BaseException:
                self._manifest = self._precision.end(self._manifest, completed=False)
                raise
            finally:
                around = (began := self._manifest.surroundings) and replace(began, ended=conditions())
                self._manifest = replace(self._manifest, ceilings=self._ceilings.found, surroundings=around)
                self._manifest = self._energy.noted(self._manifest)
            self._manifest = self._precision.end(self._manifest, completed=True)
            self._manifest = hold(self._manifest, self._prepared, self._generations)
            imprecise = self._manifest.precision_problems and self._profile.precision.parity != "off"
            status = "failed" if self._failures or imprecise else self._prepared.status_at_end
        except (KeyboardInterrupt, CloudLostError):
            status = "interrupted"
            raise
        finally:
            self._manifest = self._work.ended(self._manifest)
            if self._manifest.unchecked and status == "finished":
                status = "failed"
            gc.unfreeze()
            finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._manifest = replace(
                self._manifest,
                status=status,
                finished_at=finished,
                failures=tuple(self._failures),
                refusals=self._turns.refusals,
                generations=self._writer.written(),
            )
            if self._writer.holds_generations or self._failures:
                self._writer.write_manifest(self._manifest)
            else:
                self._writer.discard()  # it would only stand before earlier runs
        return Run(self._manifest, tuple(self._generations))

    def _open(self) -> None:
        options = Options.of(self._profile)
        for method in self._prepared.methods:
            try:
                self._decoders[method.name] = method.open(self._prepared.edge, self._prepared.cloud, options)
            except SpecbenchError:
                raise
            except Exception as error:
                self._fail(method.name, None, error)
            self._work.models.look(method.name)

    def _record_engines(self) -> None:
        """Write down which engine each model really has; a model that cannot be compiled runs eagerly.

        Raises:
            SpecbenchError: an earlier sitting of this run had others.
        """
        factories = {role: self._prepared.factory(role) for role in self._prepared.roles}
        engines = {role: factory.engine_kind for role, factory in factories.items() if factory.is_loaded}
        for role, kind in self._manifest.engines.items():
            if engines.get(role, kind) != kind:
                raise StoreError(
                    f"run {self._manifest.run_id} cannot be resumed: the {role}'s engine was {kind}, and is "
                    f"{engines[role]}",
                    "see the reason above, or start a new run",
                )
        self._manifest = replace(self._manifest, engines={**self._manifest.engines, **engines})

    def _begin_ceilings(self) -> None:
        factories = [self._prepared.factory(role) for role in self._manifest.engines]
        loaded = [factory for factory in factories if factory.is_loaded]
        self._ceilings = CeilingWatch(loaded, self._manifest.ceilings)
        self._manifest = replace(self._manifest, ceilings=self._ceilings.found)

    def _measure(self, monitor: MemoryMonitor) -> None:
        schedule = in_order(self._prepared, self._generations)
        self._progress = {method.name: self._initial_progress(method) for method in self._prepared.methods}
        if self._profile.workload.warmup:
            logger.info("warming up")
        for _ in range(self._profile.workload.warmup):
            for name in list(self._decoders):
                self._warm_up(name)
                self._work.models.look(name)
        if self._is_pointless():
            return
        self._observer.started(tuple(self._progress.values()), monitor)
        with insisting() as insist:
            for repeat, prompt, name in schedule:
                insist()
                if name not in self._decoders:
                    continue
                if self._is_pointless():
                    return
                with monitor.paused():  # a read takes a buffer of the model's size
                    self._ceilings.look(prompt.prompt_id, repeat)
                try:
                    generations = self._ask(name, prompt, repeat, monitor)
                except Exception as error:
                    self._fail(name, prompt.prompt_id, error)
                    continue
                try:
                    self._writer.append(generations)
                except (TypeError, ValueError) as error:  # it holds what JSON cannot
                    self._fail(name, prompt.prompt_id, error)
                    continue
                self._generations.extend(generations)

    def _is_pointless(self) -> bool:
        """Whether all methods but the control have failed, and nothing was measured of them; says so."""
        others = self._methods.keys() - {CONTROL}
        measured = {record.method for record in self._generations}
        if not others or not others.isdisjoint({*self._decoders, *measured}):
            return False
        logger.info("every method but the control failed, so the run ends here")
        return True

    def _initial_progress(self, method: Method) -> Progress:
        records = tuple(each for each in self._generations if each.method == method.name)
        done = len({(each.prompt_id, each.repeat) for each in records})
        total = len(self._prepared.prompts) * self._prepared.asked_repeats.stop
        return Progress(method.name, done, total, finished=records)

    def _warm_up(self, name: str) -> None:
        prompt = self._prepared.prompts[0]
        budget = min(WARMUP_TOKENS, self._profile.workload.max_new_tokens)
        request = self._prepared.request(prompt, 0, 0, (), budget)
        try:
            self._answer(name, prompt, request, lambda part, step_ms: None)
        except Exception as error:
            self._fail(name, prompt.prompt_id, error)

    def _answer(
        self, name: str, prompt: Prompt, request: Request, count: Callable[[Round, float], None]
    ) -> Answering:
        def between(part: Round, step_ms: float) -> None:
            self._precision.look(name, prompt.prompt_id)
            count(part, step_ms)

        check = self._profile.engine.check_cache
        self._answering = Answering(self._decoders[name], request, between, check)
        try:
            self._answering.run()
        finally:
            self._precision.look(name, prompt.prompt_id)
        return self._answering

    def _ask(self, name: str, prompt: Prompt, repeat: int, monitor: MemoryMonitor) -> list[Generation]:
        """All turns of one prompt, each with this method's own replies before it."""
        generations: list[Generation] = []
        for turn in range(len(prompt.turns)):
            replies = tuple(generation.text for generation in generations)
            request = self._turns.request(prompt, turn, repeat, replies)
            if request is None:
                break
            monitor.begin_interval()
            interruptions = self._prepared.cloud.interruptions
            self._work.begin()
            ask = partial(self._answer, name, prompt, request, partial(self._count, name))
            answer, energy = self._energy.during(ask)
            rounds, memory = answer.rounds, monitor.interval()
            self._work.end(name, rounds)
            tokens = [token for part in rounds for token in part.tokens]
            generations.append(
                Generation(
                    method=name,
                    prompt_id=prompt.prompt_id,
                    category=prompt.category,
                    turn=turn,
                    turns=len(prompt.turns),
                    repeat=repeat,
                    prompt_tokens=len(request.prompt_ids),
                    prompt_sha256=conversation.request_sha256(request),
                    text=self._prepared.text(request, tokens),
                    finish_reason=answer.finish_reason or "length",
                    rounds=tuple(rounds),
                    arrival_ms=tuple(answer.arrival_ms),
                    peak_rss_bytes=memory.peak_rss_bytes,
                    peak_cuda_bytes=memory.peak_cuda_bytes,
                    memory=memory.looks,
                    lossless=self._manifest.lossless[name],
                    verification=self._rule(rounds),
                    interrupted=self._prepared.cloud.interruptions > interruptions,
                    prompt_text=self._prepared.read_text(request),
                    complete=whether_complete(request, tokens),
                    energy=energy,
                )
            )
        self._advance(name, self._progress[name].after_prompt(generations))
        return generations

    def _rule(self, rounds: Sequence[Round]) -> str | None:
        drafts = any(part.drafted is not None for part in rounds)
        return self._profile.speculative.rule if drafts else None

    def _count(self, name: str, part: Round, step_ms: float) -> None:
        self._advance(name, self._progress[name].after_round(part, step_ms))

    def _advance(self, name: str, progress: Progress) -> None:
        self._progress[name] = progress
        self._observer.advanced(progress)

    def _fail(self, name: str, prompt_id: str | None, error: Exception) -> None:
        """Take a method out of the run; what it had finished is stored already.

        Raises:
            CloudLostError: passed on where no other method would fare better.
        """
        if isinstance(error, CloudLostError) and not self._prepared.cloud.goes_on_alone:
            raise error
        self._decoders.pop(name, None)
        stood = self._answering and self._answering.iterator
        self._failures.append(failure_of(self._methods[name], prompt_id, error, stood))
        self._observer.failed(self._failures[-1])
