"""The target writes: many sequences at once, and for every token the target's most probable ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOOP_CHECK_TOKENS = 48


@dataclass(frozen=True)
class Request:
    """A text to be continued.

    Args:
        prompt: token ids.
        budget: tokens to write at most.
        temperature: 0 is greedy; else a sample of the whole distribution at that temperature.
        seed: of this text's own random numbers, so that the batch does not matter.
    """

    prompt: tuple[int, ...]
    budget: int
    temperature: float
    seed: tuple[int, ...]


@dataclass
class Written:
    """What was written: token ids, and at each the target's top-k as [tokens, k] ids and log-probabilities.

    `stopped`: by a stop token, which is the last one; `looping`: it repeated itself and was cut off.
    """

    tokens: list[int] = field(default_factory=list)
    top_ids: list[np.ndarray] = field(default_factory=list)
    top_log_probs: list[np.ndarray] = field(default_factory=list)
    stopped: bool = False
    looping: bool = False


@dataclass(frozen=True)
class Writer:
    """A loaded target, as a machine that continues texts.

    Args:
        vocabulary_size: logits beyond it are padding.
        top_k: how many of the most probable tokens are kept.
    """

    model: PreTrainedModel
    vocabulary_size: int
    stop_ids: frozenset[int]
    top_k: int
    sequences_at_once: int

    def write(self, requests: Sequence[Request]) -> list[Written]:
        """Continue every request; the results have the order of the requests.

        A request that ends makes room for the next one at once, so that the passes stay wide.
        """
        import torch

        from specbench.distill.slots import SlotCache, slot_attention

        if not requests:
            return []
        results = [Written() for _ in requests]
        # Taken from the end, so the longest come first.
        waiting = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt), -i))
        capacity = max(len(request.prompt) + request.budget for request in requests)
        cache = SlotCache(min(self.sequences_at_once, len(requests)), capacity, self.model.device)
        randoms = [np.random.default_rng(request.seed) for request in requests]
        rows: list[int] = []  # which request each slot is writing
        with torch.inference_mode(), slot_attention(self.model):
            while waiting or rows:
                while waiting and len(rows) < cache.slots:
                    index = waiting.pop()
                    logits = cache.begin(self.model, len(rows), requests[index].prompt)
                    self._append(logits, [index], requests, randoms, results)
                    if not self._finished(results[index], requests[index].budget):
                        rows.append(index)
                if rows:
                    last = [results[index].tokens[-1] for index in rows]
                    self._append(cache.extend(self.model, last), rows, requests, randoms, results)
                for slot in reversed(range(len(rows))):
                    if self._finished(results[rows[slot]], requests[rows[slot]].budget):
                        cache.free(slot, len(rows) - 1)
                        rows[slot] = rows[-1]
                        rows.pop()
        return results

    def _append(
        self,
        logits: torch.Tensor,
        rows: list[int],
        requests: Sequence[Request],
        randoms: list[np.random.Generator],
        results: list[Written],
    ) -> None:
        """Choose the next token of every row from logits [rows, vocabulary], and note it."""
        import torch

        from specbench.engine.finite import demand_finite

        demand_finite(logits, "target")
        log_probs = torch.log_softmax(logits[:, : self.vocabulary_size].float(), -1)
        top = log_probs.topk(min(self.top_k, self.vocabulary_size), -1)
        tokens = self._choose(
            log_probs, top.indices[:, 0], [requests[i] for i in rows], [randoms[i] for i in rows]
        ).tolist()
        top_ids, top_log_probs = top.indices.cpu().numpy(), top.values.cpu().numpy()
        for row, index in enumerate(rows):
            results[index].tokens.append(tokens[row])
            results[index].top_ids.append(top_ids[row])
            results[index].top_log_probs.append(top_log_probs[row])

    def _choose(
        self,
        log_probs: torch.Tensor,
        best: torch.Tensor,
        requests: list[Request],
        randoms: list[np.random.Generator],
    ) -> torch.Tensor:
        """Next token ids [rows]: the best one, or a sample by the inverse of the cumulated distribution."""
        import torch

        if all(request.temperature == 0 for request in requests):
            return best
        temperature = torch.tensor([request.temperature or 1.0 for request in requests], device=best.device)
        cumulated = torch.softmax(log_probs / temperature[:, None], -1).cumsum(-1)
        drawn = torch.tensor(
            [[random.random()] for random in randoms], dtype=cumulated.dtype, device=best.device
        )
        sampled = torch.searchsorted(cumulated, drawn * cumulated[:, -1:]).squeeze(1)
        sampled = sampled.clamp_max(self.vocabulary_size - 1)
        is_greedy = torch.tensor([request.temperature == 0 for request in requests], device=best.device)
        return torch.where(is_greedy, best, sampled)

    def _finished(self, result: Written, budget: int) -> bool:
        result.stopped = result.tokens[-1] in self.stop_ids
        result.looping = not result.stopped and is_looping(result.tokens)
        return result.stopped or result.looping or len(result.tokens) >= budget


def is_looping(tokens: Sequence[int]) -> bool:
    """Whether the last tokens are one short phrase again and again: three times, and 40 tokens at least."""
    if len(tokens) < LOOP_CHECK_TOKENS or len(tokens) % 8:
        return False
    for period in range(1, 33):
        span = max(3 * period, 40)
        if span > len(tokens):
            return False
        tail = tokens[-span:]
        if tail[period:] == tail[:-period]:
            return True
    return False
