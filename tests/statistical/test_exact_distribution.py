"""Sampling rules leave the target's distribution as it is: every outcome of a round, weighed exactly.

A rule is a pure function of the drafted tokens and of uniform numbers. So its outcomes are steps over those
numbers, and the edges of the steps are found by bisection, whatever the rule does inside. That the streams of
numbers are independent is seen by draws (test_distribution.py).
"""

import itertools

import four_words
import numpy as np
import pytest
import torch
from four_words import DRAFT_LENGTH, LENGTH, NEARLY_ONE, WORDS, conditionals, joint, steps

from specbench.speculation import rules
from specbench.speculation.proposal import DraftDistribution, Proposal

EXACT = 1e-6


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Of draft and target; the draft's as they are sent."""
    draft, target = map(conditionals, four_words.pair(tmp_path_factory.mktemp("pair")))
    return {prefix: DraftDistribution.quantised(row) for prefix, row in draft.items()}, target


def edges(outcome):
    """Where a function of a number in [0, 1) changes, the ends included."""
    found, at, value = [0.0], 0.0, outcome(0.0)
    for length, next_value in steps(outcome):
        if next_value != value:
            found.append(at)
            value = next_value
        at += length
    return [*found, 1.0]


def outcomes(rule, coins=DRAFT_LENGTH):
    """Probability of each verdict of `rule(coins, uniform)`."""
    others = list(itertools.product((0.0, NEARLY_ONE), repeat=coins - 1))
    cuts = [
        sorted({cut for rest in others for cut in edges(lambda coin, at=at, rest=rest: rule(
            (*rest[:at], coin, *rest[at:]), 0.5).accepted)})
        for at in range(coins)
    ]  # fmt: skip
    found = {}
    for cell in itertools.product(*(itertools.pairwise(cut) for cut in cuts)):
        volume = np.prod([high - low for low, high in cell])
        tossed = tuple((low + high) / 2 for low, high in cell)
        for share, verdict in steps(lambda uniform, tossed=tossed: rule(tossed, uniform)):
            found[verdict] = found.get(verdict, 0.0) + volume * share
    return found


def whole(sent, stop, drafted=()):
    """Every draft that goes on behind `drafted`; a word that is less probable than `stop` is its last one."""
    ends = drafted and sent[drafted[:-1]].probability(drafted[-1]) < stop
    if ends or len(drafted) == DRAFT_LENGTH:
        yield drafted
        return
    for token in range(WORDS):
        yield from whole(sent, stop, (*drafted, token))


def drafts(sent, rule, stop):
    """Every draft that can be proposed at the beginning, with its probability, distributions and prefixes."""
    for drafted in whole(sent, stop):
        path = [drafted[:length] for length in range(len(drafted) + 1)]
        distributions = [sent[prefix] for prefix in path[:-1]]
        chances = [each.probability(token) for each, token in zip(distributions, drafted, strict=True)]
        if rule == "one_hot":
            best = [int(each.dense(WORDS, torch.device("cpu")).argmax()) for each in distributions]
            chances = [float(token == top) for token, top in zip(drafted, best, strict=True)]
        if all(chances):
            yield np.prod(chances), drafted, distributions, path


def judge(rule, drafted, distributions, targets):
    """A rule as a function of coins and of the number for the target's own token."""
    if rule == "one_hot":
        return lambda coins, uniform: rules.one_hot.accept(drafted, targets, coins, uniform)
    judged = getattr(rules, rule).accept
    return lambda coins, uniform: judged(drafted, distributions, targets, coins, uniform)


def written(rule, tables, told=lambda distributions: distributions, stop=0.0):
    """Probability of every text of three words, and how many drafted words stand on average.

    Args:
        told: what the rule is told that the draft was drawn from.
    """
    sent, target = tables
    found, accepted = np.zeros((WORDS,) * LENGTH), 0.0
    for chance, drafted, distributions, path in drafts(sent, rule, stop):
        targets = torch.stack([target[prefix] for prefix in path])
        for verdict, share in outcomes(judge(rule, drafted, told(distributions), targets)).items():
            text = (*drafted[: verdict.accepted], verdict.next_token)
            accepted += chance * share * verdict.accepted
            for rest in itertools.product(range(WORDS), repeat=LENGTH - len(text)):
                full = (*text, *rest)  # the next round begins anew, and so does as this one
                follows = [float(target[full[:at]][full[at]]) for at in range(len(text), LENGTH)]
                found[full] += chance * share * np.prod(follows)
    return found.ravel(), accepted


@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot"])
def test_a_sampling_rule_writes_exactly_the_targets_distribution(tables, rule):
    found, _ = written(rule, tables)
    assert found == pytest.approx(joint(tables[1]), abs=EXACT)


@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot"])
def test_so_it_does_where_a_draft_ends_behind_a_word_that_it_is_unsure_of(tables, rule):
    lengths = {len(drafted) for drafted in whole(tables[0], 0.3)}
    assert lengths == {*range(1, DRAFT_LENGTH + 1)}
    found, _ = written(rule, tables, stop=0.3)
    assert found == pytest.approx(joint(tables[1]), abs=EXACT)


def written_in_a_window(rule, tables):
    """As `written`, where another proposal is in flight behind the first, and stands if that one does."""
    sent, target = tables
    found = np.zeros((WORDS,) * LENGTH)
    for chance, drafted, distributions, path in drafts(sent, rule, 0.0):
        targets = torch.stack([target[prefix] for prefix in path[:-1]])
        for verdict, share in outcomes(judge(rule, drafted, distributions, targets)).items():
            text = (*drafted[: verdict.accepted], *verdict.own)
            if verdict.accepted < DRAFT_LENGTH:
                texts = {text: 1.0}
            else:
                assert verdict.next_token is None
                texts = next_token(rule, tables, text)
            for known, follows in texts.items():
                for rest in itertools.product(range(WORDS), repeat=LENGTH - len(known)):
                    whole = (*known, *rest)
                    chances = [float(target[whole[:at]][whole[at]]) for at in range(len(known), LENGTH)]
                    found[whole] += chance * share * follows * np.prod(chances)
    return found.ravel()


def next_token(rule, tables, text):
    """By text one word longer, its probability by a proposal of one word that was in flight behind `text`."""
    sent, target = tables
    found = {}
    for token in range(WORDS):
        chance = sent[text].probability(token)
        if rule == "one_hot":
            chance = float(int(sent[text].dense(WORDS, torch.device("cpu")).argmax()) == token)
        if not chance:
            continue
        targets = torch.stack([target[text], target[(*text, token)]])
        for verdict, share in outcomes(judge(rule, (token,), [sent[text]], targets), coins=1).items():
            said = (*text, token if verdict.accepted else verdict.next_token)
            found[said] = found.get(said, 0.0) + chance * share
    return found


@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot"])
def test_a_window_leaves_the_targets_distribution_as_it_is(tables, rule):
    assert written_in_a_window(rule, tables) == pytest.approx(joint(tables[1]), abs=EXACT)


def written_into_a_stream(rule, tables, said):
    """As `written`, where the target has said so many words alone by the time the draft arrives."""
    sent, target = tables
    found = np.zeros((WORDS,) * LENGTH)
    for chance, drafted, distributions, path in drafts(sent, rule, 0.0):
        whole = Proposal(drafted, tuple(distributions))
        for words in itertools.product(range(WORDS), repeat=said):
            alone = np.prod([float(target[words[:at]][words[at]]) for at in range(said)])
            texts = {words: 1.0}
            if words == drafted[:said]:
                left = whole.behind(words)
                targets = torch.stack([target[prefix] for prefix in path[said:]])
                judged = judge(rule, left.tokens, left.distributions, targets)
                texts = {}
                for verdict, share in outcomes(judged, coins=len(left)).items():
                    text = (*words, *left.tokens[: verdict.accepted], verdict.next_token)
                    texts[text] = texts.get(text, 0.0) + share
            for known, follows in texts.items():
                for rest in itertools.product(range(WORDS), repeat=LENGTH - len(known)):
                    full = (*known, *rest)
                    chances = [float(target[full[:at]][full[at]]) for at in range(len(known), LENGTH)]
                    found[full] += chance * alone * follows * np.prod(chances)
    return found.ravel()


@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot"])
def test_so_does_a_draft_that_comes_when_the_target_has_said_its_first_word(tables, rule):
    assert written_into_a_stream(rule, tables, 1) == pytest.approx(joint(tables[1]), abs=EXACT)


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_a_draft_that_was_drawn_from_something_else_than_the_rule_is_told_is_seen(tables, rule):
    def flatter(distributions):
        rows = [each.dense(WORDS, torch.device("cpu")) ** 0.5 for each in distributions]
        return [DraftDistribution.quantised(row / row.sum()) for row in rows]

    found, _ = written(rule, tables, told=flatter)
    assert np.abs(found - joint(tables[1])).max() > 1000 * EXACT


def test_block_verification_accepts_more_than_rejection(tables):
    assert written("block", tables)[1] > written("rejection", tables)[1] + 1000 * EXACT
