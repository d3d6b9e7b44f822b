"""Training text on disk: shards of finished conversations, each written whole or not at all."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from specbench.atomic import replacing
from specbench.distill import processes
from specbench.distill.settings import Settings
from specbench.distill.text import PROMPT, Dialogue, TextMaker
from specbench.distill.text_jobs import Job
from specbench.errors import SpecbenchError

logger = logging.getLogger(__name__)


def make_shards(
    maker: TextMaker, jobs: Callable[[], Iterator[Job]], settings: Settings, count: int = 1
) -> None:
    """Write shards into `settings.work/text` until there are tokens enough, or the time for text is used up.

    Shards that are there already count, with the time that they took; shard `n` holds jobs `n * jobs_per_shard`
    onwards and depends on nothing else, so a killed run loses only the shards that it was making.

    Args:
        jobs: begins the stream of jobs.
        count: of processes that write, each a shard at a time.

    Raises:
        SpecbenchError: no prompt fits the target's context.
    """
    folder = settings.work / "text"
    folder.mkdir(exist_ok=True)
    done = {int(path.stem): read_summary(path) for path in shard_paths(folder)}
    begun = set(done)
    if done:
        logger.info("text: resuming with %d shards, %d tokens", len(done), _sum(done, "written"))
    source = _Source(jobs, settings.jobs_per_shard)

    def make(number: int) -> dict:
        begin, size = time.monotonic(), settings.jobs_per_shard
        seeds = [(settings.seed, number * size + offset) for offset in range(size)]
        dialogues = maker.converse(source.shard(number), seeds)
        took = (time.monotonic() - begin) / count  # as many are made in this time
        return write_shard(_path(folder, number), dialogues, took, maker.writer.layers)

    def next_number(busy: int) -> int | None:
        if done and _is_enough(done, busy, settings):
            return None
        number = next(number for number in range(len(begun) + 1) if number not in begun)
        begun.add(number)
        return number

    for number, summary in processes.results(make, next_number, count):
        if not summary["written"]:
            raise SpecbenchError(
                f"no prompt of {settings.prompts} fits a context of {maker.context_tokens} tokens",
                "shorten the prompts",
            )
        done[number] = summary
        tokens, seconds = _sum(done, "written"), _sum(done, "seconds")
        goal = f"{settings.tokens} tokens" if settings.tokens else f"{settings.text_seconds / 60:.1f} min"
        logger.info(
            "text: %d tokens in %d shards, %.0f tokens/s, %.1f min (goal: %s)",
            *(tokens, len(done), summary["written"] / summary["seconds"], seconds / 60, goal),
        )
    if settings.tokens is not None:
        _remove_surplus(folder, done, settings.tokens)


class _Source:
    """The jobs of each shard, for shards that are asked for in ascending order."""

    def __init__(self, jobs: Callable[[], Iterator[Job]], size: int) -> None:
        self._jobs, self._size, self._at = jobs(), size, 0

    def shard(self, number: int) -> list[Job]:
        """Jobs `number * size` onwards."""
        begin = number * self._size
        skipped, self._at = begin - self._at, begin + self._size
        return list(islice(self._jobs, skipped, skipped + self._size))


def _sum(done: dict[int, dict], key: str) -> float:
    return sum(summary[key] for summary in done.values())


def _is_enough(done: dict[int, dict], busy: int, settings: Settings) -> bool:
    """Whether those that are being made will do, if they are like the others."""
    if settings.tokens is None:
        return _sum(done, "seconds") >= settings.text_seconds
    tokens = _sum(done, "written")
    return tokens + busy * tokens / len(done) >= settings.tokens


def _remove_surplus(folder: Path, done: dict[int, dict], wanted: int) -> None:
    """Keep the first shards that hold tokens enough, whichever order they were finished in."""
    tokens = 0
    for number in sorted(done):
        if tokens >= wanted:
            for path in folder.glob(f"{_path(folder, number).stem}.*"):
                path.unlink()
        tokens += done[number]["written"]


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def shard_paths(folder: Path) -> list[Path]:
    """The finished shards, in order."""
    return sorted(folder.glob("*.npz"))


def read_summary(path: Path) -> dict:
    """What a shard says of itself: `written` tokens, `seconds` they took, tokens by `tasks`."""
    with np.load(path) as data:
        return json.loads(bytes(data["summary"]))


def states_path(shard: Path, layers: Sequence[int]) -> Path:
    """Where the hidden states of these layers lie, of all tokens of a shard: [tokens, layers * size], raw."""
    return shard.with_suffix(f".{'-'.join(map(str, layers))}.states")


def write_states(path: Path, states: Sequence[torch.Tensor]) -> None:
    """Store hidden states, whole or not at all.

    Args:
        states: of sequences in their order, without the last token, which gets zeros.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        for each in states:
            torch.cat([each, each.new_zeros(1, each.shape[1])]).cpu().view(torch.uint8).numpy().tofile(file)


def write_shard(path: Path, dialogues: Sequence[Dialogue], seconds: float, layers: Sequence[int] = ()) -> dict:
    """Store all sequences in one file, if there are any, and their hidden states; returns its summary.

    Where a prompt repeats all that was said so far, token by token, it is stored once: what follows is learnt
    from in the same pass.
    """
    tokens: list[int] = []
    kinds: list[int] = []
    offsets = [0]
    top_ids: list[np.ndarray] = []
    top_log_probs: list[np.ndarray] = []
    tasks: dict[str, int] = {}
    states: list[torch.Tensor] = []
    for each in dialogues:
        for request, written, kind in each.sequences:
            prompt = list(request.prompt)
            said = tokens[offsets[-2] :] if tasks and request is not each.sequences[0][0] else []
            if said and prompt[: len(said)] == said:
                del prompt[: len(said)]
                offsets.pop()
                states = states[:-1]
            tokens += [*prompt, *written.tokens]
            kinds += [PROMPT] * len(prompt) + [kind] * len(written.tokens)
            offsets.append(len(tokens))
            states += [] if written.states is None else [written.states]
            top_ids += written.top_ids
            top_log_probs += written.top_log_probs
            tasks[each.job.task] = tasks.get(each.job.task, 0) + len(written.tokens)
    summary = {"written": len(top_ids), "seconds": seconds, "tasks": tasks}
    if not top_ids:
        return summary
    if layers:
        write_states(states_path(path, layers), states)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            tokens=np.array(tokens, np.int32),
            kinds=np.array(kinds, np.uint8),
            offsets=np.array(offsets, np.int64),
            top_ids=np.stack(top_ids).astype(np.int32),
            top_log_probs=np.maximum(np.stack(top_log_probs), -60).astype(np.float16),
            summary=np.frombuffer(json.dumps(summary).encode(), np.uint8),
        )
    return summary
