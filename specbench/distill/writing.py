"""The target writes: many sequences at once, and for every token the target's most probable ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PADDED_TOKENS_AT_ONCE = 24_576
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
        """Continue every request; the results have the order of the requests."""
        import torch

        results = [Written() for _ in requests]
        with torch.inference_mode():
            for chosen in self._batches(requests):
                self._write_batch([requests[i] for i in chosen], [results[i] for i in chosen])
        return results

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Indices of requests of like length, longest first."""
        batch: list[int] = []
        for index in sorted(range(len(requests)), key=lambda i: (-len(requests[i].prompt), i)):
            width = len(requests[batch[0]].prompt) if batch else 0
            full = len(batch) == self.sequences_at_once or (len(batch) + 1) * width > PADDED_TOKENS_AT_ONCE
            if batch and full:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _write_batch(self, requests: list[Request], results: list[Written]) -> None:
        import torch
        from transformers import DynamicCache

        device = self.model.device
        width = max(len(request.prompt) for request in requests)
        padded = [[0] * (width - len(request.prompt)) + list(request.prompt) for request in requests]
        inputs = torch.tensor(padded, device=device)
        starts = torch.tensor([width - len(request.prompt) for request in requests], device=device)
        mask = (torch.arange(width, device=device) >= starts[:, None]).long()
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        cache = DynamicCache(config=self.model.config)
        randoms = [np.random.default_rng(request.seed) for request in requests]
        rows = list(range(len(requests)))  # which request each row of the batch is
        alive = set(rows)
        while True:
            logits = self.model(
                input_ids=inputs, attention_mask=mask, position_ids=positions, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            ).logits[:, -1, : self.vocabulary_size].float()  # fmt: skip
            log_probs = torch.log_softmax(logits, -1)
            top = log_probs.topk(min(self.top_k, self.vocabulary_size), -1)
            tokens = self._choose(
                log_probs, top.indices[:, 0], [requests[i] for i in rows], [randoms[i] for i in rows]
            )
            top_ids, top_log_probs = top.indices.cpu().numpy(), top.values.cpu().numpy()
            for row, (index, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
                if index in alive:
                    self._append(results[index], token, top_ids[row], top_log_probs[row])
                    if self._finished(results[index], requests[index].budget):
                        alive.remove(index)
            if not alive:
                return
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            inputs, positions = tokens[:, None], positions[:, -1:] + 1
            if len(alive) <= len(rows) // 2:
                kept = [row for row, index in enumerate(rows) if index in alive]
                chosen = torch.tensor(kept, device=device)
                cache.batch_select_indices(chosen)
                mask, inputs, positions = mask[chosen], inputs[chosen], positions[chosen]
                rows = [rows[row] for row in kept]

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

    @staticmethod
    def _append(result: Written, token: int, top_ids: np.ndarray, top_log_probs: np.ndarray) -> None:
        result.tokens.append(token)
        result.top_ids.append(top_ids)
        result.top_log_probs.append(top_log_probs)

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
