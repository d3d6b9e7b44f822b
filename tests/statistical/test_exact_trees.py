"""Trees leave the target's distribution as it is: every tree that can be drafted, and every verdict, weighed.

Models are tables here. A draw of the drafter is enumerated token by token; a verdict is a function of coins,
asked for one by one, whose thresholds are found by bisection, whatever the rule does inside.
"""

import itertools

import numpy as np
import pytest
import torch
from four_words import NEARLY_ONE, steps

from specbench.api import Options, Proposal, Request
from specbench.profile import Decoding, Speculative
from specbench.speculation import rules
from specbench.speculation.proposal import DraftDistribution
from specbench.speculation.rules.rejection import accept_tree
from specbench.speculation.tree_drafter import TreeDrafter

WORDS, LENGTH = 3, 3
SAMPLING = Decoding(temperature=1.0)
EXACT = 1e-6
STOP = frozenset([2])


def table(seed):
    """A distribution behind every prefix of words, far from uniform."""
    random = np.random.default_rng(seed)
    prefixes = (prefix for size in range(LENGTH + 1) for prefix in itertools.product(range(WORDS), repeat=size))
    return {prefix: random.dirichlet([0.7] * WORDS) for prefix in prefixes}


DRAFT, TARGET = table(1), table(2)


class TableEngine:
    """Draws from a table as if a model computed it; a text's prompt is one token that counts for nothing."""

    role = "edge"

    def session(self, capacity):
        return TableSession()


class TableSession:
    """A cache that holds tokens, and the tree behind them."""

    def __init__(self):
        self.tokens, self.tree = [], []

    @property
    def length(self):
        return len(self.tokens) + len(self.tree)

    def prefill(self, token_ids):
        return self.extend(token_ids)[-1:]

    def extend(self, token_ids, parents=None):
        if parents is None:
            assert not self.tree
            before = len(self.tokens)
            self.tokens += token_ids
            paths = [self.tokens[: at + 1] for at in range(before, len(self.tokens))]
        else:
            self.tree += zip(token_ids, parents, strict=True)
            paths = [[*self.tokens, *self.path(at)] for at in range(len(self.tree))][-len(token_ids) :]
        return torch.stack([torch.from_numpy(DRAFT[tuple(path[1:])]).log() for path in paths])

    def path(self, node):
        token, parent = self.tree[node]
        return [*(self.path(parent) if parent >= 0 else ()), token]

    def truncate(self, length):
        assert length <= len(self.tokens)
        self.tree, self.tokens = [], self.tokens[:length]


class Script:
    """Draws that are decided beforehand, as far as the script goes; behind it, always the first that can be."""

    def __init__(self, choices):
        self.choices, self.taken, self.chance, self.others = list(choices), [], 1.0, []

    def draw(self, distribution):
        able = [int(token) for token in distribution.token_ids]
        token = self.choices[len(self.taken)] if len(self.taken) < len(self.choices) else able[0]
        if len(self.taken) >= len(self.choices):
            self.others += [(*self.taken, other) for other in able[1:]]
        self.taken.append(token)
        self.chance *= distribution.probability(token)
        return token


def drafted(drafter, monkeypatch, draft_length=2):
    """Every tree behind the prompt, with its probability."""
    left = [()]
    while left:
        script = Script(left.pop())
        monkeypatch.setattr(DraftDistribution, "draw", lambda own, _, script=script: script.draw(own))
        drafter.begin(Request((0,), LENGTH + 1, STOP))
        tree = drafter.propose(draft_length)
        yield script.chance, tree
        left += script.others


class AskedError(Exception):
    """A rule looks at a coin that is not tossed."""


class Coins(dict):
    def __missing__(self, node):
        raise AskedError(node)


def verdicts(rule, tossed=()):
    """Probability of each verdict of `rule(coins, uniform)`."""

    def event(more):
        try:
            return rule(Coins([*tossed, *more]), 0.5).path
        except AskedError as asked:
            return asked.args

    try:
        rule(Coins(tossed), 0.5)
    except AskedError as asked:
        (node,) = asked.args
    else:
        yield from steps(lambda uniform: rule(Coins(tossed), uniform))
        return
    pieces = [(0.0, NEARLY_ONE)]
    if event([(node, 0.0)]) != event([(node, NEARLY_ONE)]):
        low, high = 0.0, NEARLY_ONE
        while high - low > 1e-8:
            middle = (low + high) / 2
            low, high = (middle, high) if event([(node, middle)]) == event([(node, 0.0)]) else (low, middle)
        pieces = [(0.0, low), (low, NEARLY_ONE)]
    for low, high in pieces:
        for share, verdict in verdicts(rule, (*tossed, (node, (low + high) / 2))):
            yield (high - low) * share, verdict


def judged(tree, before=()):
    """Each text of a verdict on a tree behind these words, with its probability and the words that stood."""
    paths = [tuple(tree.tokens[each] for each in tree.path(node)) for node in range(-1, len(tree))]
    targets = torch.stack([torch.from_numpy(TARGET[(*before, *path)]) for path in paths])

    def rule(coins, uniform):
        return accept_tree(tree.tokens, tree.parents, tree.distributions, targets, coins, uniform)

    for share, verdict in verdicts(rule):
        words = [tree.tokens[node] for node in verdict.path]
        yield share, (*before, *words, verdict.next_token), verdict.accepted


def written_on(text):
    """Every text of three words that begins so, with its probability."""
    for rest in itertools.product(range(WORDS), repeat=LENGTH - len(text)):
        full = (*text, *rest)
        yield full, np.prod([TARGET[full[:at]][full[at]] for at in range(len(text), LENGTH)])


def written(trees):
    """Probability of every text of three words, and how many drafted words stand on average."""
    found, accepted = np.zeros((WORDS,) * LENGTH), 0.0
    for chance, tree in trees:
        for share, text, stood in judged(tree):
            accepted += chance * share * stood
            for full, follows in written_on(text):
                found[full] += chance * share * follows
    return found, accepted


def written_into_a_stream(trees):
    """As `written`, where the target has said the first word alone by the time the tree arrives."""
    found, left_over = np.zeros((WORDS,) * LENGTH), 0
    for chance, tree in trees:
        for said in range(WORDS):
            left, texts = tree.behind((said,)), [(1.0, (said,), 0)]
            if left:
                texts, left_over = list(judged(left, (said,))), left_over + 1
            for share, text, _ in texts:
                for full, follows in written_on(text):
                    found[full] += chance * TARGET[()][said] * share * follows
    assert left_over
    return found


EXPECTED = np.zeros((WORDS,) * LENGTH)
for text in itertools.product(range(WORDS), repeat=LENGTH):
    EXPECTED[text] = np.prod([TARGET[text[:at]][text[at]] for at in range(LENGTH)])

SHAPES = {
    "a chain": (1, (1, 1)),
    "siblings at the root": (3, (2, 1)),
    "grown to 3": (3, None),
    "grown to 5": (5, None),
    "siblings everywhere": (6, (2, 2)),
    "all there is": (12, None),
}
QUICK = ("siblings at the root", "grown to 3")


def drafter(shape):
    options = Options(SAMPLING, Speculative(verification="rejection"))
    return TreeDrafter(TableEngine(), options, *SHAPES[shape])


@pytest.mark.parametrize(
    "shape", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SHAPES]
)
def test_rejection_over_a_tree_writes_exactly_the_targets_distribution(shape, monkeypatch):
    trees = list(drafted(drafter(shape), monkeypatch))
    assert sum(chance for chance, _ in trees) == pytest.approx(1, abs=EXACT)
    assert written(trees)[0] == pytest.approx(EXPECTED, abs=EXACT)


@pytest.mark.parametrize(
    "shape", [pytest.param(name, marks=() if name == "grown to 5" else pytest.mark.slow) for name in SHAPES]
)
def test_so_does_a_tree_that_comes_when_the_target_has_said_its_first_word(shape, monkeypatch):
    trees = drafted(drafter(shape), monkeypatch)
    assert written_into_a_stream(trees) == pytest.approx(EXPECTED, abs=EXACT)


def test_a_tree_that_grows_has_another_shape_for_other_draws(monkeypatch):
    assert len({tree.parents for _, tree in drafted(drafter("grown to 3"), monkeypatch)}) > 1


@pytest.mark.slow
def test_siblings_make_more_stand(monkeypatch):
    stand = [written(drafted(drafter(name), monkeypatch))[1] for name in ("a chain", "siblings everywhere")]
    assert stand[1] > stand[0] + 0.1


def test_a_tree_whose_places_depend_on_the_tokens_in_them_is_seen(monkeypatch):
    """As if a tree were pruned by the probabilities of the tokens that were drawn."""

    def pruned():
        for chance, tree in drafted(drafter("siblings at the root"), monkeypatch):
            likely = [node for node in range(len(tree)) if DRAFT[()][tree.tokens[tree.path(node)[0]]] > 0.2]
            new = {node: index for index, node in enumerate(likely)}
            parents = tuple(-1 if tree.parents[node] < 0 else new[tree.parents[node]] for node in likely)
            at = list(dict.fromkeys(tree.parents))
            kept = [at.index(parent) for parent in dict.fromkeys(tree.parents[node] for node in likely)]
            tokens, drafts = (tree.tokens[node] for node in likely), (tree.distributions[each] for each in kept)
            yield chance, Proposal(tuple(tokens), tuple(drafts), parents=parents)

    assert min(DRAFT[()]) < 0.2
    assert np.abs(written(pruned())[0] - EXPECTED).max() > 1000 * EXACT


def test_every_tree_is_walked_by_the_targets_choices():
    """All trees of up to four nodes over two words, and all choices: `greedy` and `coupled`."""
    for size in range(1, 5):
        for parents in itertools.product(*(range(-1, node) for node in range(size))):
            for tokens in itertools.product(range(2), repeat=size):
                if len(set(zip(parents, tokens, strict=True))) < size:
                    continue
                tree = Proposal(tokens, parents=parents)
                for choices in itertools.product(range(2), repeat=size + 1):
                    demand_walk(tree, choices)


def demand_walk(tree, choices):
    """The longest path whose every token is the choice behind the one before."""
    able = [
        tree.path(node)
        for node in range(-1, len(tree))
        if all(tree.tokens[each] == choices[tree.parents[each] + 1] for each in tree.path(node))
    ]
    path = max(able, key=len)
    verdict = rules.matching(tree.tokens, choices, tree.parents)
    assert (verdict.path, verdict.accepted) == (tuple(path), len(path))
    assert verdict.next_token == choices[path[-1] + 1 if path else 0]
