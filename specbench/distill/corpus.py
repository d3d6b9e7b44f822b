"""The stored text as training data: which tokens the draft shall know, and batches of soft labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from specbench.distill.settings import Settings
from specbench.distill.shards import shard_paths
from specbench.distill.text import GREEDY, PROMPT, SAMPLED

SEQUENCES_PER_POOL = 2048
PROMPT_COUNT_WEIGHT = 0.1
PRIOR_SHARE = 0.1


class Corpus:
    """All stored sequences, in memory."""

    def __init__(self, folder: Path) -> None:
        self.paths, shards = shard_paths(folder), []
        for path in self.paths:
            with np.load(path) as data:
                shards.append(dict(data))
        names = ("tokens", "kinds", "top_ids", "top_log_probs")
        joined = (np.concatenate([shard[name] for shard in shards]) for name in names)
        self.tokens, self.kinds, self.top_ids, self.top_log_probs = joined
        self.begins = np.cumsum([0, *(len(shard["tokens"]) for shard in shards)])  # of each shard's tokens
        ends = [shard["offsets"][1:] + begin for shard, begin in zip(shards, self.begins, strict=False)]
        self.offsets = np.concatenate([np.zeros(1, np.int64), *ends])
        # Row of top_ids that belongs to each written token.
        self.row_of = np.cumsum(self.kinds != PROMPT) - 1

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def vocabulary(self, size: int, target_size: int, always: set[int]) -> np.ndarray:
        """The `size` target ids that the target most often means, ascending.

        A token's weight is the probability that the target gave it where it wrote, and a little for each time
        that a prompt holds it; a small prior prefers low ids, which byte-pair encodings merged first.

        Args:
            always: ids that are in it whatever their weight.
        """
        probabilities = np.exp(self.top_log_probs.astype(np.float32))
        weight = np.bincount(self.top_ids.ravel(), probabilities.ravel(), minlength=target_size)
        in_prompts = np.bincount(self.tokens[self.kinds == PROMPT], minlength=target_size)
        weight = weight[:target_size] + PROMPT_COUNT_WEIGHT * in_prompts[:target_size]
        prior = 1.0 / (np.arange(target_size) + 1000.0)
        weight += PRIOR_SHARE * weight.sum() * prior / prior.sum()
        weight[sorted(always)] = np.inf
        order = np.lexsort((np.arange(target_size), -weight))
        return np.sort(order[:size])

    def epoch(self, settings: Settings, number: int) -> list[np.ndarray]:
        """Every sequence once, as batches of sequences of like length, in an order of the epoch's own."""
        rng = np.random.default_rng((settings.seed, number))
        order = rng.permutation(len(self))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), SEQUENCES_PER_POOL):
            batches += self.batches(order[start : start + SEQUENCES_PER_POOL], settings.batch_tokens)
        return [batches[index] for index in rng.permutation(len(batches))]

    def batches(self, chosen: np.ndarray, tokens: int) -> list[np.ndarray]:
        """The chosen sequences, the shortest first, as batches of at most so many tokens with their padding."""
        sizes, batches = np.diff(self.offsets)[chosen], []
        batch: list[int] = []
        for place in np.argsort(sizes, kind="stable"):
            if batch and (len(batch) + 1) * sizes[place] > tokens:
                batches.append(np.array(batch))
                batch = []
            batch.append(chosen[place])
        return [*batches, np.array(batch)]

    def spans(self, chosen: np.ndarray) -> list[tuple[int, int]]:
        """Where the chosen sequences begin and end among all tokens."""
        return [(int(self.offsets[index]), int(self.offsets[index + 1])) for index in chosen]

    def padded(self, chosen: np.ndarray) -> np.ndarray:
        """The chosen sequences without their last tokens, in target ids: [sequences, width], zeros behind."""
        parts = [self.tokens[begin : end - 1] for begin, end in self.spans(chosen)]
        found = np.zeros((len(parts), max(map(len, parts))), np.int64)
        for row, part in zip(found, parts, strict=True):
            row[: len(part)] = part
        return found

    def batch(
        self, chosen: np.ndarray, to_draft: np.ndarray, unknown_id: int, settings: Settings
    ) -> tuple[np.ndarray, ...]:
        """The chosen sequences, padded on the right, as inputs and soft labels.

        Args:
            to_draft: draft id of every target id, -1 where the draft does not know it.

        Returns:
            Inputs [sequences, width] as draft ids; rows [n], indices into the flattened inputs of the positions
            that are learnt from; labels [n, k] as draft ids; the target's probabilities there [n, k], each row
            summing to 1; weights [n].
        """
        spans = self.spans(chosen)
        width = max(end - start for start, end in spans) - 1
        inputs = np.full((len(spans), width), unknown_id, np.int64)
        rows, sources, kinds = [], [], []
        for number, (start, end) in enumerate(spans):
            ids = to_draft[self.tokens[start : end - 1]]
            inputs[number, : end - start - 1] = np.where(ids < 0, unknown_id, ids)
            written = np.flatnonzero(self.kinds[start + 1 : end] != PROMPT)
            rows.append(number * width + written)
            sources.append(self.row_of[start + 1 + written])
            kinds.append(self.kinds[start + 1 + written])
        source, kind = np.concatenate(sources), np.concatenate(kinds)
        labels = to_draft[self.top_ids[source]]
        probabilities = np.exp(self.top_log_probs[source].astype(np.float32)) * (labels >= 0)
        mass = probabilities.sum(1)
        probabilities /= np.maximum(mass, 1e-6)[:, None]
        of_kind = np.select(
            [kind == GREEDY, kind == SAMPLED], [1.0, settings.sampled_weight], settings.user_weight
        )
        # Where the target means words that the draft cannot say, there is nothing to learn.
        weights = of_kind * np.where(mass > 1e-4, np.minimum(mass, 1.0), 0.0)
        probabilities, weights = probabilities.astype(np.float32), weights.astype(np.float32)
        return inputs, np.concatenate(rows), np.maximum(labels, 0), probabilities, weights
