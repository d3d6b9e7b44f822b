"""Whose turn it is at the model: what several edges want to have read goes into one pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from specbench.engine.batch import Steps
from specbench.engine.session import Block, Passed
from specbench.profile import Batch


@dataclass(eq=False)
class _Turn:
    """One edge that waits for its next reply.

    Args:
        block: what must be read for it, as soon as that is known.
        since_s: when it became known, by the clock of the event loop.
    """

    steps: Steps[bytes]
    reply: asyncio.Future[bytes | None]
    block: Block | None = None
    since_s: float = 0.0


class Batcher:
    """Computes replies in the model's thread, first come first served; blocks are read together.

    A block waits until `batch.sessions` of them are there, or as many as there are edges in the midst of a
    text, or for `batch.wait_ms`. Behind that time at most one more reply of another kind, such as a prompt's,
    goes before it. An edge has one block at a time and a pass takes those that waited longest, so that none is
    passed over.

    Args:
        read: reads blocks in one pass, in the model's thread.
        decoding: how many edges are in the midst of a text, so that a block of theirs may come.
    """

    def __init__(
        self,
        worker: ThreadPoolExecutor,
        read: Callable[[Sequence[Block]], list[Passed | Exception]],
        batch: Batch,
        decoding: Callable[[], int],
    ) -> None:
        self._worker, self._read, self._batch, self._decoding = worker, read, batch, decoding
        self._arrived: deque[_Turn] = deque()
        self._waiting: list[_Turn] = []
        self._has_yielded = False
        self._under_way: Sequence[Steps[bytes]] = ()
        self._given_up: set[Steps[bytes]] = set()

    async def __aenter__(self) -> Batcher:
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def next(self, steps: Steps[bytes]) -> asyncio.Future[bytes | None]:
        """The next reply of what `Service.steps` began; `None` behind the last one."""
        turn = _Turn(steps, asyncio.get_running_loop().create_future())
        self._arrived.append(turn)
        self._wake.set()
        return turn.reply

    def give_up(self, steps: Steps[bytes]) -> None:
        """Nobody waits for these replies any more; a pass under way goes on for the others."""
        self._arrived = deque(turn for turn in self._arrived if turn.steps is not steps)
        self._waiting = [turn for turn in self._waiting if turn.steps is not steps]
        if steps in self._under_way:
            self._given_up.add(steps)

    def look_again(self) -> None:
        """An edge left: the others' blocks may have waited for it."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            if self._is_due():
                turns = self._waiting[: self._batch.sessions]
                del self._waiting[: len(turns)]
                self._has_yielded = False
                await self._compute(turns, self._pass_together, turns)
            elif self._arrived:
                turn = self._arrived.popleft()
                await self._compute([turn], _begin, turn.steps)
            else:
                self._wake.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._patience_s)

    def _is_due(self) -> bool:
        """Whether the blocks that wait are to be read now."""
        if not self._waiting:
            return False
        if len(self._waiting) >= min(self._batch.sessions, self._decoding()):
            return True
        # Who arrived meanwhile may join, but not for ever.
        return self._patience_of(self._waiting[0]) <= 0 and (self._has_yielded or not self._arrived)

    @property
    def _patience_s(self) -> float | None:
        """How much longer the block that waits longest does so; `None` where there is none."""
        return self._patience_of(self._waiting[0]) if self._waiting else None

    def _patience_of(self, turn: _Turn) -> float:
        now_s = asyncio.get_running_loop().time()
        return max(0.0, turn.since_s + self._batch.wait_ms / 1000 - now_s)

    async def _compute(self, turns: Sequence[_Turn], function: Callable, argument: object) -> None:
        """Have the model's thread find out what comes next in each of `turns`."""
        loop = asyncio.get_running_loop()
        self._under_way = [turn.steps for turn in turns]
        found = await loop.run_in_executor(self._worker, function, argument)
        for turn, item in zip(turns, found, strict=True):
            if turn.steps in self._given_up:
                continue
            if isinstance(item, Block):
                turn.block, turn.since_s = item, loop.time()
                self._waiting.append(turn)
                continue
            self._has_yielded |= turn.block is None and self._patience_s == 0
            if turn.reply.done():
                continue
            if isinstance(item, Exception):
                turn.reply.set_exception(item)
            else:
                turn.reply.set_result(item)
        self._under_way = ()
        self._given_up.clear()

    def _pass_together(self, turns: Sequence[_Turn]) -> list[Block | bytes | Exception | None]:
        """Read the blocks of all, and go on with each until its reply."""
        answers = self._read([turn.block for turn in turns if turn.block])
        found = []
        for turn, answer in zip(turns, answers, strict=True):
            how = turn.steps.throw if isinstance(answer, Exception) else turn.steps.send
            found.append(_advance(how, answer))
        return found


def _begin(steps: Steps[bytes]) -> list[Block | bytes | Exception | None]:
    return [_advance(steps.send, None)]


def _advance(how: Callable, answer: Passed | Exception | None) -> Block | bytes | Exception | None:
    """What comes next; an error is one edge's, and never the others'."""
    try:
        return how(answer)
    except StopIteration:
        return None
    except Exception as error:
        return error
