"""Are the intervals honest? Thousands of comparisons of a method with itself, on noisy machines."""

import numpy as np
import pytest

from specbench.stats.intervals import bootstrap, with_levels

SETS, RESAMPLES = 4000, 999
CATEGORIES = [name for name in range(6) for _ in range(8)]


def log_tpots(rng, categories, repeats, sets=SETS):
    """log TPOT of two interleaved methods that are the same; shape (2, sets, repeats, questions).

    Questions differ, categories too; the machine drifts as a random walk of 1 % a request; every request has
    noise of Student's t with 3 degrees of freedom (3 %), and 3 % of them meet a burst of some 40 %.
    """
    questions = len(categories)
    effect = 0.3 * rng.standard_normal((sets, 1, questions)) + np.asarray(categories) / 5
    steps = (sets, repeats, questions, 2)
    drift = 0.01 * rng.standard_normal((sets, repeats * questions * 2)).cumsum(1).reshape(steps)
    noise = 0.03 * rng.standard_t(3, steps)
    bursts = (rng.random(steps) < 0.03) * rng.exponential(0.4, steps)
    ours_first = rng.random(steps[:-1]) < 0.5
    first, second = np.moveaxis(drift + noise + bursts, -1, 0)
    return (
        effect + np.where(ours_first, second, first),
        effect + np.where(ours_first, first, second),
    )


def log_ratios(rng, categories, repeats=1, sets=SETS):
    """One value a question: the mean over its repeats; shape (sets, questions)."""
    control, method = log_tpots(rng, categories, repeats, sets)
    return (control - method).mean(1)


def excluding_one(values, categories):
    low, high = bootstrap(values, categories, RESAMPLES).interval()
    return float(np.mean((low > 0) | (high < 0)))


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_method_compared_with_itself_at_48_prompts_differs_in_3_to_8_percent(repeats):
    values = log_ratios(np.random.default_rng(repeats), CATEGORIES, repeats)
    assert 0.03 <= excluding_one(values, CATEGORIES) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("categories", [[0] * 48, [*range(48)], [0] * 40 + [*range(1, 9)]])
def test_so_it_does_whatever_the_categories_are(categories):
    values = log_ratios(np.random.default_rng(4), categories)
    assert 0.03 <= excluding_one(values, categories) <= 0.08


def test_twelve_prompts_are_enough_for_an_honest_interval():
    categories = [name for name in range(6) for _ in range(2)]
    values = log_ratios(np.random.default_rng(5), categories)
    assert 0.03 <= excluding_one(values, categories) <= 0.08


@pytest.mark.slow
def test_a_planted_difference_of_10_percent_is_found_in_9_of_10():
    rng = np.random.default_rng(6)
    values = log_ratios(rng, CATEGORIES, repeats=3, sets=2000)
    # A draft suits some questions better than others.
    planted = values + np.log(1.1) + 0.08 * rng.standard_normal(values.shape)
    low, _ = bootstrap(planted, CATEGORIES, RESAMPLES).interval()
    assert np.mean(low > 0) >= 0.9


@pytest.mark.slow
def test_plain_bca_would_find_differences_that_are_not_there():
    """Why the interval is what it is: scipy's BCa on the same data excludes 1 far too often."""
    from scipy import stats

    values = log_ratios(np.random.default_rng(1), CATEGORIES, sets=400)
    labels = np.asarray(CATEGORIES)

    def mean(*parts, axis):
        return sum(part.sum(axis) for part in parts) / len(labels)

    samples = [values[:, labels == name] for name in range(6)]
    found = stats.bootstrap(
        samples, mean, n_resamples=RESAMPLES, axis=-1, method="BCa", rng=np.random.default_rng(0)
    )
    interval = found.confidence_interval
    assert np.mean((interval.low > 0) | (interval.high < 0)) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [3, 5])
def test_a_method_that_differs_from_process_to_process_is_as_rarely_told_from_itself(restarts):
    """All prompts of a process share what it does to them: an interval over prompts alone is too narrow."""
    rng, prompts, sets = np.random.default_rng(restarts), len(CATEGORIES) // 2, 300
    categories, wrong = CATEGORIES[::2], {"prompts": 0, "both": 0}
    for _ in range(sets):
        process = 0.02 * rng.standard_normal((restarts, 1))
        values = process + 0.02 * rng.standard_t(3, (restarts, prompts)) + 0.02 * rng.standard_normal(prompts)
        over_prompts = bootstrap(values.mean(0), categories, RESAMPLES)
        over_restarts = bootstrap(values.mean(1), [0] * restarts, RESAMPLES, seed=1)
        for name, found in (("prompts", over_prompts), ("both", with_levels(over_prompts, over_restarts))):
            low, high = found.interval()
            wrong[name] += bool(low > 0 or high < 0)
    assert wrong["both"] / sets <= 0.09
    assert wrong["prompts"] / sets > 0.2
