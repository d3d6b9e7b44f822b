"""Names of candidates."""

import pytest

from specbench.sweeps.candidates import in_words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"speculative.draft_length": 4, "methods.m.depth": None}, "draft_length=4,depth=null"),
        (
            {"speculative.draft_length": 4, "methods.m.draft_length": 2, "methods.m.depth": 1},
            "speculative.draft_length=4,methods.m.draft_length=2,depth=1",
        ),
    ],
)
def test_settings_are_named_by_the_last_part_of_their_keys_unless_two_are_alike(settings, words):
    assert in_words(settings) == words
