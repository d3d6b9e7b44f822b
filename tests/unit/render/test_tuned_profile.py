"""The profile that a tuning writes."""

import pytest

from specbench.profile import load_profile
from specbench.render.tuning import profile_page
from specbench.sweeps.autotune import Autotuned

STOP = "speculative.confidence_stop"


def test_null_takes_back_what_the_profile_below_it_says(tmp_path):
    base, out = tmp_path / "base.yaml", tmp_path / "tuned.yaml"
    base.write_text("extends: default\nworkload: {limit: 3}\nspeculative: {confidence_stop: 0.4}\n")
    found = Autotuned("speculative", "base", ("1",), 3, {STOP: 0.4}, (), {STOP: None}, 1.1, None)
    out.write_text(profile_page(found, str(base), [("workload.limit", None)], out))
    written = load_profile(str(out))
    assert (written.speculative.confidence_stop, written.workload.limit) == (None, None)


@pytest.mark.parametrize(
    ("gain", "interval", "said"),
    [(1.1, None, True), (1.1, (0.9, 1.3), True), (1.1, (1.05, 1.2), False), (None, None, False)],
)
def test_its_head_says_where_the_choice_was_not_shown_to_be_faster(tmp_path, gain, interval, said):
    found = Autotuned("speculative", "default", ("1",), 3, {STOP: 0.4}, (), {STOP: None}, gain, interval)
    page = profile_page(found, "default", [], tmp_path / "tuned.yaml")
    assert ("# These settings were the fastest, but not shown to be faster" in page) is said
