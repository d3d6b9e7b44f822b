"""Runs methods over prompts, interleaved, and owns the clock."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from specbench.api import CloudLostError, Decoder, Method, Options, Request, Round
from specbench.bench import conversation, identity, recomputing
from specbench.bench.ceiling import CeilingWatch
from specbench.bench.contract import BrokenContractError, demand_kept
from specbench.bench.failing import failure_of, reason_of
from specbench.bench.interruption import insisting
from specbench.bench.observer import Observer, Progress
from specbench.bench.order import in_order
from specbench.bench.precision import PrecisionWatch
from specbench.bench.preparation import Prepared
from specbench.bench.store import RunWriter
from specbench.bench.telemetry import MemoryMonitor
from specbench.bench.turns import Turns
from specbench.bench.work import WorkWatch
from specbench.clock import now_ms
from specbench.errors import ExitCode, SpecbenchError
from specbench.records import CONTROL, Failure, Generation, Manifest, Prompt, Run

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
        self._answering: Iterator[Round] = iter(())  # for whoever must say where a method stood
        self._failures: list[Failure] = []
        self._turns = Turns(prepared, manifest.refusals, observer.note)
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
            self._open()
            self._record_engines()
            self._begin_ceilings()
            self._manifest = self._precision.begin(self._manifest)
            self._writer.write_manifest(self._manifest)
            # The models are here to stay: collecting them again and again would only disturb the clock.
            gc.collect()
            gc.freeze()
            try:
                with MemoryMonitor(self._profile.memory.monitor_interval_ms) as monitor:
                    self._measure(monitor)
            except BaseException:
                self._manifest = self._precision.end(self._manifest, completed=False)
                raise
            finally:
                self._manifest = replace(self._manifest, ceilings=self._ceilings.found)
            self._manifest = self._precision.end(self._manifest, completed=True)
            self._check_identity()
            imprecise = self._manifest.precision_problems and self._profile.precision.parity != "off"
            status = "failed" if self._failures or imprecise else "finished"
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
                raise SpecbenchError(
                    f"run {self._manifest.run_id} cannot be resumed: the {role}'s engine was {kind}, and is "
                    f"{engines[role]}",
                    "see why above, or start a new run",
                    ExitCode.STORE,
                )
        self._manifest = replace(self._manifest, engines={**self._manifest.engines, **engines})

    def _begin_ceilings(self) -> None:
        factories = [self._prepared.factory(role) for role in self._manifest.engines]
        loaded = [factory for factory in factories if factory.is_loaded]
        self._ceilings = CeilingWatch(loaded, self._manifest.ceilings, self._observer.note)
        self._manifest = replace(self._manifest, ceilings=self._ceilings.found)

    def _measure(self, monitor: MemoryMonitor) -> None:
        schedule = in_order(self._prepared, self._generations)
        self._progress = {method.name: self._initial_progress(method) for method in self._prepared.methods}
        if self._profile.workload.warmup:
            self._observer.note("warming up")
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
        self._observer.note("no method is left to measure beside the control, so the run ends here")
        return True

    def _initial_progress(self, method: Method) -> Progress:
        units = len(self._prepared.prompts) * self._profile.workload.repeats
        mine = [record for record in self._generations if record.method == method.name]
        return Progress(method.name, len({(r.prompt_id, r.repeat) for r in mine}), units)

    def _warm_up(self, name: str) -> None:
        prompt = self._prepared.prompts[0]
        budget = min(WARMUP_TOKENS, self._profile.workload.max_new_tokens)
        request = self._prepared.request(prompt, 0, 0, (), budget)
        try:
            self._answering = self._decoders[name].generate(request)
            for part in self._answering:
                demand_kept(part, budget, request.stop_ids)
                budget -= len(part.tokens)
                self._precision.look(name, prompt.prompt_id)
        except Exception as error:
            self._fail(name, prompt.prompt_id, error)

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
            rounds, arrival_ms = self._answer(name, request, prompt.prompt_id)
            memory = monitor.interval()
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
                    prompt_sha256=conversation.ids_sha256(request.prompt_ids),
                    text=self._prepared.cloud.tokenizer.decode(tokens, skip_special_tokens=True),
                    finish_reason="stop" if tokens[-1] in request.stop_ids else "length",
                    rounds=tuple(rounds),
                    arrival_ms=tuple(arrival_ms),
                    peak_rss_bytes=memory.peak_rss_bytes,
                    peak_cuda_bytes=memory.peak_cuda_bytes,
                    memory=memory.looks,
                    lossless=self._manifest.lossless[name],
                    verification=self._rule(rounds),
                    interrupted=self._prepared.cloud.interruptions > interruptions,
                )
            )
        self._advance(name, replace(self._progress[name], prompts_done=self._progress[name].prompts_done + 1))
        return generations

    def _rule(self, rounds: Sequence[Round]) -> str | None:
        drafts = any(part.drafted is not None for part in rounds)
        return self._profile.speculative.verification if drafts else None

    def _answer(self, name: str, request: Request, prompt_id: str) -> tuple[list[Round], list[float]]:
        """One request on the clock; what we do between rounds is taken off it, unless the method runs on."""
        decoder = self._decoders[name]
        rounds: list[Round] = []
        arrival_ms: list[float] = []
        left = request.max_new_tokens
        paused_ms = 0.0
        started = now_ms()
        self._answering = decoder.generate(request)
        for part in self._answering:
            arrived = now_ms()
            arrival_ms.append(arrived - started - paused_ms)
            rounds.append(part)
            demand_kept(part, left, request.stop_ids)
            left -= len(part.tokens)
            if self._profile.engine.check_cache:
                decoder.check()
            self._precision.look(name, prompt_id)
            self._count(name, part, arrival_ms)
            if not decoder.runs_on:
                paused_ms += now_ms() - arrived
            if part.tokens[-1] in request.stop_ids:
                left = 0
        self._precision.look(name, prompt_id)
        if left:
            raise BrokenContractError("it ended before a stop token and before its budget")
        return rounds, arrival_ms

    def _count(self, name: str, part: Round, arrival_ms: list[float]) -> None:
        known = self._progress[name]
        step_ms = arrival_ms[-1] - (arrival_ms[-2] if len(arrival_ms) > 1 else 0.0)
        self._advance(
            name,
            replace(
                known,
                tokens=known.tokens + len(part.tokens),
                busy_ms=known.busy_ms + step_ms,
                drafted=known.drafted + (part.drafted or 0),
                accepted=known.accepted + (part.accepted or 0),
            ),
        )

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
        self._failures.append(failure_of(self._methods[name], prompt_id, error, self._answering))
        self._observer.failed(self._failures[-1])

    def _check_identity(self) -> None:
        methods = [name for name, repeats in self._manifest.repeats_control.items() if repeats]
        options = Options.of(self._profile)
        prover = identity.Prover(self._prepared.cloud, options, self._request_of)
        try:
            found = identity.divergences(self._generations, CONTROL, methods, prover)
            held, wrong = recomputing.hold(self._generations, CONTROL, prover)
        except CloudLostError:
            raise
        except Exception as error:  # what was measured is not lost with the proof of it
            reason = f"texts could not be held against the control's: {reason_of(error)}"
            self._manifest = replace(self._manifest, unchecked=(reason,))
        else:
            self._manifest = replace(self._manifest, divergences=(*wrong, *found), recomputation=held)

    def _request_of(self, generation: Generation) -> Request:
        """What a generation answered, its method's own earlier replies before it."""
        mine = {record.turn: record.text for record in self._generations
                if (record.method, record.prompt_id, record.repeat)
                == (generation.method, generation.prompt_id, generation.repeat)}  # fmt: skip
        prompt = next(p for p in self._prepared.prompts if p.prompt_id == generation.prompt_id)
        replies = tuple(mine[turn] for turn in range(generation.turn))
        return self._prepared.request(prompt, generation.turn, generation.repeat, replies)
