"""Sampling rules leave the target's distribution as it is: G-tests over joint sequences of three tokens.

The conditional distributions are those of real tiny models, read once for every prefix, so that 200,000
texts take seconds; the rules, the draft's distributions and the random streams are those that ship.
"""

import time

import four_words
import numpy as np
import pytest
import torch
from four_words import DRAFT_LENGTH, LENGTH, PROMPT, SAMPLING, WORDS, conditionals, joint
from scipy.stats import chi2
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_eagle import SpeculativeEagle, SpeculativeEagleTree
from switching import always_drafting

from specbench.api import TREE_RULES, AutoregressiveDecoder, EdgeModel, Needs, Options, Request
from specbench.cloud.linked import LinkedCloud
from specbench.profile import EdgeSpec, LinkSpec, Speculative
from specbench.speculation import drafter, rules, verifier
from specbench.speculation.proposal import DraftDistribution
from specbench.speculation.randomness import Purpose, Stream
from specbench.speculation.sampling import draw, probabilities
from specbench.speculation.target import LocalTarget
from specbench.testing import answer, tiny_eagle, tokens_of

SAMPLES = 200_000
SIGNIFICANCE = 1e-3


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return four_words.pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def tables(pair):
    """Of draft and target."""
    return [conditionals(model) for model in pair]


def p_value(counts, expected):
    """Of the G-test that `counts` were drawn from `expected`."""
    seen = counts > 0
    statistic = 2 * (counts[seen] * np.log(counts[seen] / (counts.sum() * expected[seen]))).sum()
    return chi2.sf(statistic, len(counts) - 1)


def sampled(tables, rule, coins_purpose=Purpose.COIN, samples=SAMPLES):
    """How often each text was written, in rounds of two drafted words, one stream a purpose for all texts."""
    draft, target = tables
    sent = {prefix: DraftDistribution.quantised(row) for prefix, row in draft.items()}
    best = {prefix: int(row.argmax()) for prefix, row in draft.items()}
    proposals, coins, own = (Stream(11, p) for p in (Purpose.PROPOSAL, coins_purpose, Purpose.OWN_TOKEN))
    stacked = {}
    counts = np.zeros((WORDS,) * LENGTH)
    for _ in range(samples):
        text = (draw(target[()], own.uniform()),)
        while len(text) < LENGTH:
            path = [text]
            distributions = []
            for _ in range(DRAFT_LENGTH):
                if rule == "one_hot":
                    token = best[path[-1]]
                else:
                    distributions.append(sent[path[-1]])
                    token = distributions[-1].draw(proposals.uniform())
                path.append((*path[-1], token))
            drafted = path[-1][len(text) :]
            if path[-1] not in stacked:
                stacked[path[-1]] = torch.stack([target[prefix] for prefix in path])
            tossed = [coins.uniform() for _ in drafted]
            judged = {"rejection": rules.rejection.accept, "block": rules.block.accept}.get(rule)
            if judged:
                verdict = judged(drafted, distributions, stacked[path[-1]], tossed, own.uniform())
            else:
                verdict = rules.one_hot.accept(drafted, stacked[path[-1]], tossed, own.uniform())
            text = (*text, *drafted[: verdict.accepted], verdict.next_token)
        counts[text[:LENGTH]] += 1
    return counts.ravel()


@pytest.fixture(scope="module")
def rejection_counts(tables):
    return sampled(tables, "rejection")


@pytest.mark.slow
def test_rejection_writes_the_targets_distribution(tables, rejection_counts):
    assert rejection_counts.sum() == SAMPLES
    assert p_value(rejection_counts, joint(tables[1])) > SIGNIFICANCE


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["block", "one_hot"])
def test_its_special_cases_write_the_targets_distribution(tables, rule):
    assert p_value(sampled(tables, rule), joint(tables[1])) > SIGNIFICANCE


@pytest.mark.slow
def test_the_test_has_the_power_to_see_an_error_of_two_percent(tables, rejection_counts):
    expected = joint(tables[1])
    order = np.argsort(expected)
    planted = expected.copy()
    planted[order[-1]] -= 0.02
    planted[order[-2]] += 0.02
    assert np.abs(planted - expected).sum() / 2 == pytest.approx(0.02)
    assert p_value(rejection_counts, planted) < 1e-12


@pytest.mark.slow
def test_the_test_sees_coins_that_share_the_proposals_stream(tables):
    counts = sampled(tables, "rejection", coins_purpose=Purpose.PROPOSAL, samples=40_000)
    # Both streams count from the same start, so that coins repeat numbers that proposals were drawn with.
    assert p_value(counts, joint(tables[1])) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot", "coupled", None])
def test_the_whole_loop_writes_the_targets_distribution(pair, tables, rule):
    edge, cloud = pair
    options = Options(SAMPLING, Speculative(draft_length=DRAFT_LENGTH, verification=rule or "rejection"))
    decoder = (
        SpeculativeDecoding().open(edge, cloud, options)
        if rule
        else AutoregressiveDecoder(cloud.target(options))
    )
    demand_distribution(decoder, cloud)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rule"),
    [
        *((SpeculativeEagle(), rule) for rule in ("rejection", "block", "one_hot", "coupled")),
        *((SpeculativeEagleTree(), rule) for rule in ("rejection", "coupled")),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_so_it_does_where_the_draft_reads_the_targets_hidden_states(pair, tmp_path, method, rule):
    _, cloud = pair
    draft = tiny_eagle(tmp_path / "draft", 6, cloud.folder, layers=(0, 1))
    edge = EdgeModel(EdgeSpec(model=str(draft), dtype="float64"))
    options = Options(SAMPLING, Speculative(draft_length=DRAFT_LENGTH, verification=rule))
    demand_distribution(method.open(edge, cloud, options), cloud)


@pytest.mark.slow
@pytest.mark.parametrize("rule", sorted(TREE_RULES - {"greedy"}))
def test_so_it_does_where_chains_and_trees_are_sent_into_a_stream(pair, rule, monkeypatch):
    """A target that takes longer than its draft, as real ones do, so that its stream overtakes some drafts."""

    def decoding(self):
        while True:
            time.sleep(0.001)
            commit = yield from self.verified(None)
            yield commit
            if commit.finish_reason:
                return

    monkeypatch.setattr(LocalTarget, "decoding", decoding)
    edge, cloud = pair
    options = Options(SAMPLING, Speculative(verification=rule))
    far = LinkedCloud(cloud.spec, link=LinkSpec(rtt_ms=0.5))
    target = far.verifier(options, Needs(trees=True))
    demand_distribution(always_drafting(edge, target, options, trees=True), cloud)
    far.close()


def demand_distribution(decoder, cloud):
    """Assert that the second token of a text is drawn from the target's distribution."""
    first = tokens_whole(cloud)
    counts = np.zeros(len(first))
    texts = [tokens_of(answer(decoder, Request(PROMPT, LENGTH, frozenset(), seed))) for seed in range(1500)]
    for text in texts:
        counts[text[1]] += 1
    grouped = grouped_by_mass(first, 12)
    assert p_value(*[np.bincount(grouped, each) for each in (counts, first)]) > SIGNIFICANCE


def tokens_whole(cloud):
    """Marginal distribution of the second token over the whole vocabulary."""
    session = cloud.engine.session()
    first = probabilities(session.prefill(PROMPT), SAMPLING)[0]
    marginal = torch.zeros_like(first)
    for token in range(len(first)):
        session.truncate(len(PROMPT))
        marginal += first[token] * probabilities(session.extend([token]), SAMPLING)[0]
    return marginal.numpy()


def grouped_by_mass(distribution, groups):
    """Group number of every token, groups of about equal mass, so that no cell is too small for the test."""
    order = np.argsort(distribution)
    share = distribution[order].cumsum()
    numbers = np.empty(len(distribution), int)
    numbers[order] = np.minimum((share * groups).astype(int), groups - 1)
    return numbers


@pytest.mark.slow
def test_one_stream_used_for_draft_and_target_would_be_seen_in_the_whole_loop(pair, monkeypatch):
    edge, cloud = pair
    for module in (drafter, verifier):
        monkeypatch.setattr(module, "Stream", lambda seed, purpose: Stream(seed, Purpose.PROPOSAL))
    options = Options(SAMPLING, Speculative(draft_length=DRAFT_LENGTH, verification="rejection"))
    decoder = SpeculativeDecoding().open(edge, cloud, options)
    expected = tokens_whole(cloud)
    counts = np.zeros(len(expected))
    for seed in range(1500):
        counts[tokens_of(answer(decoder, Request(PROMPT, LENGTH, frozenset(), seed)))[1]] += 1
    grouped = grouped_by_mass(expected, 12)
    assert p_value(*[np.bincount(grouped, each) for each in (counts, expected)]) < 1e-6


@pytest.mark.slow
def test_block_verification_accepts_at_least_as_much_as_rejection(tables):
    draft, target = tables
    stream = Stream(3, Purpose.COIN)
    accepted = {"rejection": 0, "block": 0}
    for _ in range(20_000):
        path, distributions = [()], []
        for _ in range(DRAFT_LENGTH):
            distributions.append(DraftDistribution.quantised(draft[path[-1]]))
            path.append((*path[-1], distributions[-1].draw(stream.uniform())))
        targets = torch.stack([target[prefix] for prefix in path])
        coins = [stream.uniform() for _ in range(DRAFT_LENGTH)]
        for rule in accepted:
            judged = getattr(rules, rule).accept
            accepted[rule] += judged(path[-1], distributions, targets, coins, stream.uniform()).accepted
    assert accepted["block"] > accepted["rejection"]
