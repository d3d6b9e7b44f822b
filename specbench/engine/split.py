"""The eager engine of a split model: rank 0 decides, and each of its passes is made by all ranks together.

Before a pass rank 0 sends what goes into the model (ids, positions), which cache it is for, and how far that
was shortened meanwhile; every rank keeps its own heads' keys and values between passes. Activations are
exchanged by the collectives of transformers' plan.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from specbench.engine.eager import EagerEngine
from specbench.engine.eager_session import EagerSession
from specbench.errors import RanksLostError, SpecbenchError
from specbench.models.caches import cut, growing_cache
from specbench.models.library import demand_cache_argument

if TYPE_CHECKING:
    from specbench.engine.base import Engine
    from specbench.engine.ranks import Ranks
    from specbench.models.loading import LoadedModel
    from specbench.models.media import Media


@dataclass(frozen=True)
class Pass:
    """One pass of the model.

    Args:
        slot: rank 0's number for the cache; one that is not known yet is opened.
        records: whether that cache may be shortened again.
        cuts: tokens to take off it first, one call after the other.
        arguments: of the model's forward, without the cache.
        closed: caches that are not needed any more.
    """

    slot: int
    records: bool
    cuts: tuple[int, ...]
    arguments: dict
    closed: tuple[int, ...]


@dataclass(frozen=True)
class Close:
    """Free caches."""

    slots: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """Do something by its name, as all ranks do at once, and send what comes of it."""

    name: str


class SplitEngine(EagerEngine):
    """Rank 0's engine. Whoever calls the model, a session or `model.generate`, has all ranks follow."""

    def __init__(self, loaded: LoadedModel, vocabulary_size: int, ranks: Ranks) -> None:
        super().__init__(loaded, vocabulary_size)
        self.ranks = ranks
        self._lock = threading.Lock()
        self._in_step: int | None = None  # the thread that does a task now
        self._numbers = itertools.count()
        self._closed: deque[int] = deque()
        loaded.model.forward = self._leading(loaded.model.forward)

    def session(self, capacity: int | None = None) -> SplitSession:
        """A cache slot for one sequence, empty, on every rank."""
        return SplitSession(self)

    @property
    def lasting_state(self) -> str | None:
        """States are not restored: the ranks cut their caches."""
        return f"{self.state}, and the model is split over ranks" if self.state else None

    def require_hidden_states(self, layers: Sequence[int], size: int) -> None:
        """Refuse: hidden states of a model that is split over ranks have not been tried.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError(
            "a model that is split over ranks (cloud.parallel) gives no hidden states",
            "add --set cloud.parallel=null",
        )

    def recompute(self, token_ids: Sequence[int], count: int, media: Media | None = None) -> torch.Tensor:
        """As of every engine, by a pass into an empty cache: all ranks follow passes that have one."""
        session = self.session()
        if media:
            session.show(media)
        return session.extend(token_ids)[-count:]

    def together(self, name: str, function: Callable[[], object]) -> list[Any]:
        """Have all ranks do a task, this one `function`; returns what each says.

        Raises:
            RanksLostError: a rank is gone.
        """
        with self._lock:
            try:
                self._tell(Task(name))
                self._in_step = threading.get_ident()
                return self.ranks.gather(function())
            except Exception as error:
                raise self.ranks.lost(error) from error
            finally:
                self._in_step = None

    def _leading(self, forward: Callable) -> Callable:
        cache_name = self.cache_argument

        @functools.wraps(forward)  # transformers looks at its signature
        def leading(**arguments: object) -> object:
            if self._in_step == threading.get_ident():
                return forward(**arguments)
            with self._lock:
                cache = arguments.pop(cache_name, None)
                order = self._pass(cache, arguments)
                try:
                    self._tell(order)
                    return forward(**{cache_name: cache}, **arguments)
                except Exception as error:
                    raise self.ranks.lost(error) from error

        return leading

    def _tell(self, order: object) -> None:
        if self.ranks.loss is not None:
            raise RanksLostError(self.ranks.loss)
        self.ranks.tell(order)

    def _pass(self, cache: object, arguments: Mapping) -> Pass:
        if type(cache) is not DynamicCache:
            raise TypeError(f"a pass with a {type(cache).__name__}, which the other ranks have no copy of")
        marked: Any = cache  # with attributes of ours
        if not hasattr(marked, "slot"):
            marked.slot = next(self._numbers)
            weakref.finalize(cache, self._free, marked.slot).atexit = False
        cuts = getattr(cache, "cuts", None)
        taken = tuple(cuts or ())
        if cuts is not None:
            cuts.clear()
        values = {
            name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()
        }
        return Pass(marked.slot, cuts is not None, taken, values, self._take_closed())

    def _take_closed(self) -> tuple[int, ...]:
        return tuple(self._closed.popleft() for _ in range(len(self._closed)))

    def _free(self, slot: int) -> None:
        """A cache is gone here: tell the others at once, or with the next pass where one is under way."""
        self._closed.append(slot)
        if self.ranks.loss is None and not self.ranks.has_left and self._lock.acquire(blocking=False):
            try:
                self.ranks.tell(Close(self._take_closed()))
            except RuntimeError as error:
                self.ranks.lost(error)
            finally:
                self._lock.release()


class SplitSession(EagerSession):
    """One sequence in rank 0's cache; those of the other ranks follow."""

    def __init__(self, engine: SplitEngine) -> None:
        super().__init__(engine)
        self._cuts: list[int] = []
        if not engine.state:
            marked: Any = self.cache
            marked.cuts = self._cuts

    def _forget(self, count: int) -> None:
        if not self._engine.state:
            super()._forget(count)
            self._cuts.append(count)


@torch.inference_mode()
def follow(engine: Engine, ranks: Ranks, tasks: Mapping[str, Callable[[], object]]) -> None:
    """What every rank but 0 does: the orders of rank 0, to the end.

    Raises:
        RuntimeError: rank 0 is gone, or another one was lost in a pass.
    """
    model, device = engine.loaded.model, engine.loaded.device
    caches: dict[int, DynamicCache] = {}
    cache_name = demand_cache_argument(model, engine.loaded.folder)
    order: Pass | Close | Task | None
    while (order := ranks.hear()) is not None:
        if isinstance(order, Task):
            ranks.gather(tasks[order.name]())
            continue
        for slot in order.slots if isinstance(order, Close) else order.closed:
            caches.pop(slot, None)
        if isinstance(order, Close):
            continue
        cache = caches.get(order.slot)
        if cache is None:
            cache = growing_cache(model, order.records)
            assert cache is not None  # rank 0 makes no pass with a cache of the model's own making
            caches[order.slot] = cache
        for count in order.cuts:
            cut(cache, count)
        arguments = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in order.arguments.items()
        }
        model(**{cache_name: cache}, **arguments)
