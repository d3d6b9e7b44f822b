"""Rules that draw leave the target's distribution as it is under biases, penalties and cut-offs.

As in test_exact_distribution.py, every outcome is weighed. The target's rows are those of a block, where the
penalties of a row must count the drafted tokens before it. What a row must be is computed one by one.
"""

import itertools
import math

import four_words
import numpy as np
import pytest
import torch
from four_words import DRAFT_LENGTH, LENGTH, WORDS, conditionals
from test_exact_distribution import EXACT, drafts, judge, outcomes

from specbench.api import Options, Proposal, Request
from specbench.profile import Decoding, Speculative
from specbench.speculation.proposal import DraftDistribution
from specbench.speculation.sampling import Scorer, probabilities
from specbench.speculation.verifier import PassedCase, Verifier

STOP = frozenset([2])
REQUEST = Request((), LENGTH + DRAFT_LENGTH, STOP)  # the models read a prompt, of other words
SETTINGS = {
    "presence and frequency": {"presence_penalty": 0.9, "frequency_penalty": 1.1},
    "a bias": {"logit_bias": {1: 2.0, 3: -100.0}},
    "min-p": {"min_p": 0.3},
    "a least length": {"min_new_tokens": 2},
    "all of it": {
        "presence_penalty": -0.5, "frequency_penalty": 0.8, "logit_bias": {0: 0.7}, "min_p": 0.05,
        "min_new_tokens": 1, "repetition_penalty": 1.2, "top_p": 0.95,
    },
}  # fmt: skip


def one_by_one(logits, prefix, decoding):
    """The distribution behind a prefix, from logits of shape (words,), by the definitions alone."""
    scores = [float(each) for each in logits]
    for word in range(WORDS):
        if word in STOP and len(prefix) < decoding.min_new_tokens:
            scores[word] = -math.inf
        scores[word] += decoding.logit_bias.get(word, 0.0)
        if word in prefix:
            penalty = decoding.repetition_penalty
            scores[word] = scores[word] / penalty if scores[word] > 0 else scores[word] * penalty
            scores[word] -= decoding.presence_penalty + decoding.frequency_penalty * prefix.count(word)
    weights = [math.exp(score / decoding.temperature) for score in scores]
    weights = [weight if weight >= decoding.min_p * max(weights) else 0.0 for weight in weights]
    kept, total = 0.0, sum(weights)
    for word in sorted(range(WORDS), key=lambda word: -weights[word]):
        if kept >= decoding.top_p * total:
            weights[word] = 0.0
        kept += weights[word]
    return [weight / sum(weights) for weight in weights]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Logits of draft and target behind every prefix."""
    pair = four_words.pair(tmp_path_factory.mktemp("pair"))
    return [conditionals(model, lambda logits, prefix: logits.clone()) for model in pair]


def judged(logits, options, drafted):
    """The target's rows of a block, as the verifier has them."""
    path = [drafted[:length] for length in range(len(drafted) + 1)]
    rows = torch.stack([logits[prefix] for prefix in path])
    verifier, proposal = Verifier(options, REQUEST), Proposal(drafted)
    penalized = verifier.scorer.penalized(rows, (), drafted)
    return PassedCase(verifier, proposal, penalized, 0).targets


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot"])
def test_a_rule_writes_exactly_the_penalised_distribution(raw, rule, name):
    decoding = Decoding(temperature=1.3, **SETTINGS[name])
    options = Options(decoding, Speculative(verification=rule))
    scorer = Scorer.of(options, REQUEST)
    draft, target = raw
    expected = {prefix: one_by_one(row, prefix, decoding) for prefix, row in target.items()}
    sent = {
        prefix: DraftDistribution.quantised(probabilities(scorer.penalized(row[None], prefix), decoding)[0])
        for prefix, row in draft.items()
    }
    found = np.zeros((WORDS,) * LENGTH)
    for chance, drafted, distributions, path in drafts(sent, rule, 0.0):
        targets = judged(target, options, drafted)
        for row, prefix in zip(targets, path, strict=True):
            assert row.tolist() == pytest.approx(expected[prefix], abs=EXACT)
        for verdict, share in outcomes(judge(rule, drafted, distributions, targets)).items():
            text = (*drafted[: verdict.accepted], verdict.next_token)
            for rest in itertools.product(range(WORDS), repeat=LENGTH - len(text)):
                full = (*text, *rest)
                follows = [expected[full[:at]][full[at]] for at in range(len(text), LENGTH)]
                found[full] += chance * share * np.prod(follows)
    texts = itertools.product(range(WORDS), repeat=LENGTH)
    whole = [np.prod([expected[text[:at]][text[at]] for at in range(LENGTH)]) for text in texts]
    assert found.ravel() == pytest.approx(np.array(whole), abs=EXACT)
