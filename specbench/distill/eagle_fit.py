"""The linear parts of a feature-fed draft before training: fitted to the target, in closed form."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbench.distill.corpus import Corpus
from specbench.distill.eagle_student import features_of
from specbench.distill.student import Student

logger = logging.getLogger(__name__)

TOKENS = 65536
RIDGE = 0.001  # of the mean square of what is read


@torch.no_grad()
def fit(student: Student, target: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Let the draft's layer, which is the target's last one, read nearly what it reads in the target.

    Two ridge regressions over some of the text. `fuse` makes of the hidden states that the draft reads the
    target's last one, and `join` makes of that and the next token's embedding what comes into the target's last
    layer behind that token. So the draft says something sensible before its first step of training.

    Args:
        student: of `build_eagle`; its `fuse` and `join` are overwritten.
        seed: of the choice of texts.
    """
    model: Any = student.model
    layers, count = tuple(model.config.feature_layers), target.config.get_text_config().num_hidden_layers
    read = tuple(sorted({*layers, count - 1, count}))
    table: Any = target.get_input_embeddings().weight
    features, last, embeddings, wanted = [], [], [], []
    tokens = 0
    for index in np.random.default_rng(seed).permutation(len(corpus)):
        if tokens > TOKENS:
            break
        begin, end = corpus.spans(np.array([index]))[0]
        text = torch.from_numpy(corpus.tokens[begin:end].astype(np.int64)).to(table.device)
        states = features_of(target, text[None], read)[0]
        before, behind = states[1:-1], states[2:]  # the first token's is like no other's
        features.append(before[:, [read.index(layer) for layer in layers]].flatten(1))
        last.append(before[:, read.index(count)])
        embeddings.append(table[text[2:]])
        wanted.append(behind[:, read.index(count - 1)])
        tokens += len(text)
    logger.info("training: fitting the draft to %d tokens of the text", tokens)
    model.fuse.weight.copy_(_ridge(features, last))
    joined = (
        torch.cat([model.hidden_norm(model.fuse(each.float())), model.token_norm(token.float())], -1)
        for each, token in zip(features, embeddings, strict=True)
    )
    model.join.weight.copy_(_ridge(joined, wanted))


def _ridge(inputs: Iterable[Tensor], wanted: Iterable[Tensor]) -> Tensor:
    """The matrix that makes of a row of `inputs` nearly that of `wanted`, shape (wanted's width, inputs').

    Both come text by text, shape (tokens, width), so that no more than one text is held in float64.
    """
    products: Tensor | float = 0.0
    both: Tensor | float = 0.0
    for each, other in zip(inputs, wanted, strict=True):
        rows = each.double()
        products, both = products + rows.t() @ rows, both + rows.t() @ other.double()
    assert isinstance(products, Tensor)
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    return torch.linalg.solve(products, both).t().float()
