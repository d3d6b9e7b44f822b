"""Whether a figure that was measured again agrees with the claimed one."""

import pytest
from comparisons import pair, run

from specbench.evidence.agreement import EQUAL, OVERLAP, PAIRED, WITHIN, agreement
from specbench.evidence.claims import Claim
from specbench.stats.groups import groups_of


def speed(before, after, questions=24, jitter=0.05):
    """What becomes of a speed-up that was `before` and is `after`."""
    runs = [run(pair(questions, factor, jitter), name) for factor, name in ((before, "r1"), (after, "r2"))]
    rows = [next(group for group in groups_of([each]) if group.name == "m") for each in runs]
    claim = Claim("x", "", "methods/m/speedup_vs_control", before)
    return agreement(claim, claim, (rows[0], rows[1]), runs[:1], runs[1:])


@pytest.mark.parametrize(
    ("after", "agrees"), [(1.5, True), (1.53, True), (1.47, True), (1.7, False), (1.3, False)]
)
def test_a_speed_up_agrees_unless_its_change_is_shown_to_pass_3_percent(after, agrees):
    found = speed(1.5, after)
    assert (found.rule, found.agrees) == (PAIRED, agrees)
    assert found.change == pytest.approx(after / 1.5, rel=1e-6)  # the noise of both runs is the same


def test_differences_between_prompts_are_no_part_of_the_change():
    assert speed(1.5, 1.65, jitter=0.5).agrees is False


def test_with_few_prompts_it_cannot_be_told():
    found = speed(1.5, 3.0, questions=11)
    assert (found.agrees, found.outcome) == (None, "undecided: 12 prompts are needed")


@pytest.mark.parametrize(
    ("claimed", "here", "rule", "agrees"),
    [
        ((0.8, None), (0.81, None), WITHIN, True),
        ((0.8, None), (0.7, None), WITHIN, False),
        ((0.0, None), (0.0, None), EQUAL, True),
        ((0.0, None), (0.01, None), EQUAL, False),
        ((1.5, (1.4, 1.6)), (1.7, (1.55, 1.85)), OVERLAP, True),
        ((1.5, (1.4, 1.6)), (1.9, (1.65, 2.1)), OVERLAP, False),
        ((0, None), (0, None), EQUAL, True),
        ((0, None), (1, None), EQUAL, False),
        (("faster", None), ("slower", None), EQUAL, False),
        ((0.8, None), (None, None), EQUAL, False),
    ],
)
def test_other_figures_agree_by_their_intervals_or_by_their_values(claimed, here, rule, agrees):
    both = (Claim("x", "", "methods/m/acceptance_rate", *each) for each in (claimed, here))
    found = agreement(*both, None, (), ())
    assert (found.rule, found.agrees) == (rule, agrees)
