"""Rules that draw leave the target's distribution under a grammar as it is.

As in test_exact_penalties.py every outcome is weighed. Which words may follow a prefix is found by trying all
texts against the expression, without the library that masks the models' logits.
"""

import itertools
import re

import four_words
import numpy as np
import pytest
import torch
from four_words import DRAFT_LENGTH, LENGTH, WORDS, conditionals
from test_exact_distribution import EXACT, drafts, judge, outcomes

from specbench.api import Options, Proposal, Request
from specbench.profile import Decoding, Speculative
from specbench.speculation.grammar import Grammar
from specbench.speculation.proposal import DraftDistribution
from specbench.speculation.sampling import Scorer, probabilities
from specbench.speculation.verifier import PassedCase, Verifier

LETTERS, STOP = "ab.c", 2
LONGEST = LENGTH + DRAFT_LENGTH + 3
EXPRESSIONS = ("(ab|ba|c)+", "a*b?", "(a|c)b(a|b|c)", "cab+")


def reader():
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {letter if index != STOP else "<|end|>": index for index, letter in enumerate(LETTERS)}
    backend = Tokenizer(models.WordLevel(words, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


def may_follow(expression):
    """By prefix of words, those that some whole answer goes on with; all behind what is no beginning of one."""
    ways = itertools.chain(*(itertools.product("abc", repeat=length) for length in range(LONGEST)))
    texts = {"".join(text) for text in ways if re.fullmatch(expression, "".join(text))}
    table = {}
    for length in range(LENGTH + DRAFT_LENGTH):
        for prefix in itertools.product(range(WORDS), repeat=length):
            said = "".join(LETTERS[word] for word in prefix)
            following = {text[len(said)] for text in texts if text.startswith(said) and len(text) > len(said)}
            words = {LETTERS.index(letter) for letter in following} | ({STOP} if said in texts else set())
            table[prefix] = words or {*range(WORDS)}
    return table


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Logits of draft and target behind every prefix."""
    pair = four_words.pair(tmp_path_factory.mktemp("pair"))
    return [conditionals(model, lambda logits, prefix: logits.clone()) for model in pair]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot"])
def test_a_rule_writes_exactly_the_targets_distribution_over_what_the_grammar_allows(raw, rule, expression):
    decoding = Decoding(temperature=1.3)
    options = Options(decoding, Speculative(verification=rule))
    grammar = Grammar("regex", expression, frozenset([STOP]), reader())
    request = Request((), LENGTH + DRAFT_LENGTH, frozenset([STOP]), grammar=grammar)
    scorer, known = Scorer.of(options, request), may_follow(expression)
    draft, target = raw
    expected = {}
    for prefix, row in target.items():
        weights = [float((row[word] / 1.3).exp()) if word in known[prefix] else 0.0 for word in range(WORDS)]
        expected[prefix] = [weight / sum(weights) for weight in weights]
    sent = {}
    for prefix, row in draft.items():
        masked = probabilities(scorer.penalized(row[None], prefix), decoding)[0]
        forced = scorer.forced(prefix)
        assert forced == (next(iter(known[prefix])) if len(known[prefix]) == 1 else None)
        sent[prefix] = (
            DraftDistribution.quantised(masked) if forced is None else DraftDistribution.certain(forced)
        )
    found = np.zeros((WORDS,) * LENGTH)
    for chance, drafted, distributions, path in drafts(sent, rule, 0.0):
        verifier, proposal = Verifier(options, request), Proposal(drafted)
        rows = torch.stack([target[prefix] for prefix in path])
        targets = PassedCase(verifier, proposal, verifier.scorer.penalized(rows, (), drafted), 0).targets
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
