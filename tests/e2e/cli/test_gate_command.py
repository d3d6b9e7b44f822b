"""`specbench compare --fail-if-slower`: what CI sees."""

import pytest


@pytest.fixture
def measured(specbench, profile):
    done = specbench("run", "speculative", "--profile", profile(), "--limit", 1, "--name", "one")
    assert done.code == 0, done.err


def test_the_gate_says_its_outcome_and_ends_with_it(specbench, measured):
    done = specbench("compare", "one", "--fail-if-slower", "5%", "--json")
    (row,) = done.json["gate"]["methods"]
    assert (done.code, row["outcome"], done.json["gate"]["allowed"]) == (0, "undecided", 0.05)
    assert "Gate undecided, which is no failure" in specbench("compare", "--fail-if-slower", "5%").out


@pytest.mark.parametrize("given", ["5", "0.05", "-5%", "five%", "%"])
def test_what_is_no_percentage_is_refused(specbench, measured, given):
    done = specbench("compare", f"--fail-if-slower={given}")
    assert (done.code, "is not a percentage" in done.err) == (2, True)


def test_runs_that_are_not_comparable_have_no_gate(specbench, measured):
    done = specbench("compare", "--fail-if-slower", "5%", "--allow-unfair")
    assert (done.code, "has no effect with --fail-if-slower" in done.err) == (2, True)
