"""Many edges on one server: the schedule of requests, and the edges that send them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from specbench.api import CloudModel, EdgeModel, ExitCode, Method, Options, Request, Round, SpecbenchError
from specbench.benchmark import conversation
from specbench.benchmark.preparation import Prepared
from specbench.clock import now_ms
from specbench.cloud.server.server import Patience
from specbench.results.records import Generation

logger = logging.getLogger(__name__)

EdgeModels = Callable[[], EdgeModel]
COLOCATED = "speculative_colocated"
"""The way to serve whose drafts the server makes."""
LONGEST_SILENCE_S = Patience.idle - 60  # edges connect a while before the first one asks


@dataclass(frozen=True)
class Asked:
    """One request, the edge that sends it, and when; `None` means as soon as the previous one is answered."""

    request: Request
    prompt_id: str
    category: str
    edge: int
    due_ms: float | None


@dataclass(frozen=True)
class Answer:
    """What an edge saw of one request. Times are milliseconds since the request came to the edge.

    Args:
        edge: which one, from 0.
        ended_ms: since the load began.
    """

    edge: int
    ended_ms: float
    generation: Generation


def schedule(
    prepared: Prepared, edges: int, requests: int, rate: float | None, prompts: Sequence
) -> list[Asked]:
    """Requests in the order of their arrival, handed to the edges in turn.

    Args:
        rate: requests a second, of all edges together, with exponential gaps between them; `None` has every
            edge ask again as soon as it is answered.
        prompts: whose first turns are asked, over and over.

    Raises:
        SpecbenchError: an edge is silent for so long that a server hangs up on it.
    """
    gaps = random.Random(f"{prepared.profile.workload.seed}/arrivals")
    due_ms, found, before_ms = 0.0, [], [0.0] * edges
    for number in range(requests):
        prompt = prompts[number % len(prompts)]
        request = prepared.request(prompt, 0, 0, [])
        due_ms += 0.0 if rate is None else 1000 * gaps.expovariate(rate)
        due = None if rate is None else due_ms
        found.append(Asked(request, prompt.prompt_id, prompt.category, number % edges, due))
        silent_s, before_ms[number % edges] = (due_ms - before_ms[number % edges]) / 1000, due_ms
        if silent_s > LONGEST_SILENCE_S:
            raise SpecbenchError(
                f"an edge would be silent for {silent_s:.0f} s; a server hangs up after {Patience.idle:.0f} s",
                "pass a higher --rate or fewer --edges",
            )
    return found


class Edge:
    """One edge: a connection, and in it one text at a time, by the method's own decoder.

    Args:
        model: the draft model, as this edge has it.
    """

    def __init__(self, cloud: CloudModel, method: Method, options: Options, model: EdgeModel) -> None:
        self._cloud = cloud
        self._decoder = method.open(model, cloud, options)

    @property
    def was_interrupted(self) -> bool:
        """Whether the cloud was lost over one of its texts."""
        return self._cloud.interruptions > 0

    def close(self) -> None:
        """Hang up."""
        self._cloud.close()

    def answer(self, request: Request) -> Iterator[Round]:
        """The rounds of one request."""
        return self._decoder.generate(request)


def drive(edges: Sequence[Edge], asked: Sequence[Asked], way: str) -> list[Answer]:
    """Send all requests, each edge in its own thread, and return when all are answered.

    Raises:
        Exception: the error of the first edge that failed; the others stop after their current request.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []
    together = threading.Barrier(len(edges))

    def live(number: int) -> None:
        mine = deque(one for one in asked if one.edge == number)
        try:
            together.wait()
            began_ms = now_ms()
            while mine and not errors:
                one = mine.popleft()
                if one.due_ms is not None:
                    time.sleep(max(0.0, began_ms + one.due_ms - now_ms()) / 1000)
                due_ms = now_ms() if one.due_ms is None else began_ms + one.due_ms
                arrivals, rounds = [], []
                for part in edges[number].answer(one.request):
                    arrivals.append(now_ms() - due_ms)
                    rounds.append(part)
                generation = _generation(one, way, arrivals, rounds)
                answers.append(Answer(number, now_ms() - began_ms, generation))
        except BaseException as error:
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in range(len(edges))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((one for one in errors if not isinstance(one, threading.BrokenBarrierError)), errors[0])
    return answers


def _generation(asked: Asked, way: str, arrivals: Sequence[float], rounds: Sequence[Round]) -> Generation:
    return Generation(
        method=way,
        prompt_id=asked.prompt_id,
        category=asked.category,
        turn=0,
        turns=1,
        repeat=0,
        prompt_tokens=len(asked.request.prompt_ids),
        prompt_sha256=conversation.request_sha256(asked.request),
        text="",
        finish_reason=rounds[-1].finish_reason or "",
        rounds=tuple(rounds),
        arrival_ms=tuple(arrivals),
    )


def measure(
    prepared: Prepared, edges: int, asked: Sequence[Asked], models: EdgeModels
) -> dict[str, list[Answer]]:
    """Serve the same requests by each method; returns what each edge saw, by method.

    Args:
        models: makes the draft model of one edge.
    """
    found = {}
    for method in reversed(prepared.methods):  # what a server elsewhere may refuse comes first
        logger.info(f"{len(asked)} requests by {method.name}")
        found[method.name] = measure_one(prepared, edges, asked, models, method)
    return found


def measure_one(
    prepared: Prepared, edges: int, asked: Sequence[Asked], models: EdgeModels, method: Method
) -> list[Answer]:
    """As `measure`, by one method."""
    options, opened = Options.of(prepared.profile), []
    try:
        for _ in range(edges):
            opened.append(Edge(prepared.cloud.another(), method, options, models()))
        for _ in opened[0].answer(asked[0].request):
            pass  # what a first time takes is not the load's
        found = drive(opened, asked, method.name)
        if any(edge.was_interrupted for edge in opened):
            raise SpecbenchError(
                f"an edge lost the cloud during the requests by {method.name}, so their times are not valid",
                "run the command again",
                ExitCode.RUN,
            )
        return found
    finally:
        for edge in opened:
            edge.close()


def lone_tpot_ms(prepared: Prepared, asked: Sequence[Asked], models: EdgeModels, control: Method) -> float:
    """TPOT of a single edge on an idle server without drafting, from the first answer that has one.

    Raises:
        SpecbenchError: none has a second token.
    """
    for one in {each.prompt_id: each for each in asked}.values():
        lone = replace(one, edge=0, due_ms=None)
        tpot_ms = measure_one(prepared, 1, [lone], models, control)[0].generation.tpot_ms
        if tpot_ms is not None:
            return tpot_ms
    raise SpecbenchError(
        "no answer has a second token, so there is no time per token to keep to",
        "pass --set workload.max_new_tokens=20",
    )
