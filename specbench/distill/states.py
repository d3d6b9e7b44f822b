"""Hidden states of the target along the training text, kept on disk beside it.

To read a text costs the target more than the draft's own steps along it, and the target has read what it wrote.
"""

from __future__ import annotations

import logging
import shutil

import numpy as np
import torch
from transformers import PreTrainedModel

from specbench.distill.corpus import Corpus
from specbench.distill.eagle_student import features_of
from specbench.distill.shards import states_path, write_states
from specbench.errors import StoreError

logger = logging.getLogger(__name__)

TOKENS_AT_ONCE = 4096


class States:
    """Of some layers, behind every token of a corpus.

    Args:
        layers: as of `Features`.

    Raises:
        SpecbenchError: the disk has no room for what is not there yet.
    """

    def __init__(self, target: PreTrainedModel, corpus: Corpus, layers: tuple[int, ...]) -> None:
        self._target, self._corpus, self._layers = target, corpus, layers
        self._width = len(layers) * target.config.get_text_config().hidden_size
        self._paths = [states_path(path, layers) for path in corpus.paths]
        sizes = np.diff(corpus.begins) * self._width * target.dtype.itemsize
        missing = [
            number
            for number, (path, size) in enumerate(zip(self._paths, sizes, strict=True))
            if not path.is_file() or path.stat().st_size != size
        ]
        if missing:
            self._demand_room(int(sizes[missing].sum()))
        for count, number in enumerate(missing):
            logger.info("training: reading the text for its hidden states, shard %d of %d", count, len(missing))
            self._read(number)
        self._parts = [
            torch.from_file(str(path), size=int(size) // target.dtype.itemsize, dtype=target.dtype)
            for path, size in zip(self._paths, sizes, strict=True)
        ]

    def of(self, chosen: np.ndarray) -> torch.Tensor:
        """Behind all tokens but the last of each chosen sequence, shape (sequences, width, layers * size).

        Padded on the right.
        """
        spans = self._corpus.spans(chosen)
        longest = max(end - begin for begin, end in spans) - 1
        found = torch.zeros(len(spans), longest, self._width, dtype=self._target.dtype)
        for row, (begin, end) in zip(found, spans, strict=True):
            number = int(np.searchsorted(self._corpus.begins, begin, "right")) - 1
            first = begin - self._corpus.begins[number]
            row[: end - begin - 1] = self._parts[number].view(-1, self._width)[first : first + end - begin - 1]
        return found.to(self._target.device)

    def _demand_room(self, size: int) -> None:
        folder = self._paths[0].parent
        free = shutil.disk_usage(folder).free
        if size > free:
            raise StoreError(
                f"hidden states of the text take {size / 1e9:.1f} GB, and {folder} has room for "
                f"{free / 1e9:.1f}",
                "distil from fewer --tokens, or free some space",
            )

    def _read(self, number: int) -> None:
        """Let the target read a shard that was written without them."""
        shard = np.searchsorted(self._corpus.offsets, self._corpus.begins[number : number + 2])
        found: dict[int, torch.Tensor] = {}
        for chosen in self._corpus.batches(np.arange(*shard), TOKENS_AT_ONCE):
            tokens = torch.from_numpy(self._corpus.padded(chosen)).to(self._target.device)
            states = features_of(self._target, tokens, self._layers).flatten(2)
            for index, row, (begin, end) in zip(chosen, states, self._corpus.spans(chosen), strict=True):
                found[index] = row[: end - begin - 1].clone()
        write_states(self._paths[number], [found[index] for index in range(*shard)])
