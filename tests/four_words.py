"""Target and draft of four words, small enough that every text of three of them can be weighed."""

import itertools

import numpy as np

from specbench.api import CloudModel, EdgeModel
from specbench.profile import CloudSpec, Decoding, EdgeSpec
from specbench.speculation.sampling import probabilities
from specbench.testing import tiny_llama

WORDS = 4
LENGTH = 3
DRAFT_LENGTH = 2
SAMPLING = Decoding(temperature=1.3)
PROMPT = (20, 21, 22)
NEARLY_ONE = 1 - 1e-9


def pair(folder):
    """Draft and target whose conditional distributions differ a great deal; only their first words are read."""
    for name, seed in (("target", 4), ("draft", 6)):
        tiny_llama(folder / name, seed=seed, num_hidden_layers=1, vocab_size=96, initializer_range=0.4)
    cloud = CloudModel(CloudSpec(model=str(folder / "target"), device="cpu", dtype="float64"))
    return EdgeModel(EdgeSpec(model=str(folder / "draft"), dtype="float64")), cloud


def conditionals(model, scored=lambda logits, prefix: probabilities(logits, SAMPLING)):
    """The distribution over the first words behind every prefix of them.

    Args:
        scored: what becomes of a model's logits behind a prefix.
    """
    session = model.engine.session()
    table = {}
    for length in range(LENGTH + DRAFT_LENGTH):
        for prefix in itertools.product(range(WORDS), repeat=length):
            session.truncate(0)
            logits = session.prefill([*PROMPT, *prefix])[:, :WORDS]
            table[prefix] = scored(logits, prefix)[0]
    return table


def joint(target):
    """Probability of each text of three words, in the order of `itertools.product`."""
    texts = itertools.product(range(WORDS), repeat=LENGTH)
    return np.array([np.prod([float(target[t[:i]][t[i]]) for i in range(LENGTH)]) for t in texts])


def steps(outcome, low=0.0, high=NEARLY_ONE):
    """The constant pieces of a function of a number in [0, 1), as pairs of length and value."""
    first, last = outcome(low), outcome(high)
    if first == last or high - low < 1e-8:
        yield high - low, last
    else:
        middle = (low + high) / 2
        yield from steps(outcome, low, middle)
        yield from steps(outcome, middle, high)
