"""Every architecture of the zoo works or is refused with a sentence, and the page that lists them says so.

`SPECBENCH_WRITE_ARCHITECTURES=1 pytest -n0 -m slow tests/zoo` writes docs/reference/architectures.md anew.
"""

import functools
import os

import pytest
import transformers
from repository import REPOSITORY
from zoo import page
from zoo.architectures import NAMES
from zoo.building import build
from zoo.judging import REFUSED, WORKS, outcome

from specbench.models.library import quiet_transformers

PAGE = REPOSITORY / "docs" / "reference" / "architectures.md"
WRITES = bool(os.environ.get("SPECBENCH_WRITE_ARCHITECTURES"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The outcome of an architecture by its name, worked out once."""

    @functools.cache
    def of(name):
        folder = tmp_path_factory.mktemp(name)
        with quiet_transformers():
            build(name, folder)
            return outcome(folder)

    return of


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_works_or_is_refused_with_a_sentence(name, outcomes):
    found = outcomes(name)
    assert {found.control, found.speculative} <= {WORKS, REFUSED}
    assert bool(found.sentence) == (REFUSED in (found.control, found.speculative))
    if not WRITES and page.is_of(PAGE, transformers.__version__):
        assert page.row(name, found) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_lists_every_architecture_and_no_other(outcomes):
    if WRITES:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page.text({name: outcomes(name) for name in NAMES}, transformers.__version__))
    assert page.names(PAGE) == NAMES


def test_the_zoo_has_at_least_forty_architectures():
    assert len(NAMES) >= 40
