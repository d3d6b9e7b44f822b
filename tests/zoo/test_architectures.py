"""Every architecture of the zoo works or is refused with a sentence, and the page that lists them says so.

`SPECBENCH_WRITE_ARCHITECTURES=1 pytest -n0 -m slow tests/zoo` writes docs/reference/architectures.md anew, row
by row. Only then are they compiled too, which takes the better part of an hour. `rest` instead of `1` writes
the rows that say *not tried*, and `-k` chooses some.
"""

import functools
import os

import pytest
import transformers
from repository import REPOSITORY
from zoo import page
from zoo.architectures import NAMES
from zoo.building import build
from zoo.judging import NOT_COMPILED, REFUSED, WORKS, outcome

from specbench.models.library import quiet_transformers

PAGE = REPOSITORY / "docs" / "reference" / "architectures.md"
WRITES = os.environ.get("SPECBENCH_WRITE_ARCHITECTURES", "")
GOES_ON = WRITES == "rest"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The outcome of an architecture by its name, worked out once."""

    @functools.cache
    def of(name):
        folder = tmp_path_factory.mktemp(name)
        with quiet_transformers():
            build(name, folder)
            found = outcome(folder, bool(WRITES))
        if WRITES:
            page.keep(PAGE, name, found, transformers.__version__)
        return found

    return of


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_works_or_is_refused_with_a_sentence(name, outcomes):
    if GOES_ON and page.is_of(PAGE, transformers.__version__) and page.is_tried(PAGE, name):
        pytest.skip("its row is written")
    found = outcomes(name)
    assert {found.control, found.speculative} <= {WORKS, REFUSED}
    assert bool(found.sentence) == (REFUSED in (found.control, found.speculative))
    assert bool(found.uncompiled) == (NOT_COMPILED in (found.compiled, found.invariant))
    if not WRITES and page.is_of(PAGE, transformers.__version__):
        assert page.says(PAGE, name, found)


def test_the_page_lists_every_architecture_and_no_other():
    assert page.names(PAGE) == NAMES


@pytest.mark.skipif(GOES_ON, reason="only the rest is tried")
def test_the_zoo_has_at_least_ninety_architectures_of_which_sixty_speculate(outcomes):
    assert len(NAMES) >= 90
    assert sum(outcomes(name).speculative == WORKS for name in NAMES) >= 60


def test_the_page_has_at_least_thirty_architectures_that_are_compiled():
    assert sum(line.split(" | ")[4] == WORKS for line in page.rows(PAGE)) >= 30
