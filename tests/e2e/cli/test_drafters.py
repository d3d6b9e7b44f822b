"""Every method with a drafter of its own is swept, traced, replayed and planned like any other."""

import pytest

from specbench.profile.cost_table import write_costs

OPTIONS = {"suffix": "methods.suffix.min_match=1,3", "hybrid": "methods.hybrid.max_draft_factor=1,4"}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_method_is_swept_replayed_and_planned(specbench, profile, models, tmp_path, name):
    from replays import costs

    path = profile(edge={"model": str(models / "target")}, workload={"max_new_tokens": 40})
    swept = specbench("sweep", name, "--profile", path, "--over", OPTIONS[name], "--json")
    assert swept.code == 0, swept.err
    assert len([row for row in swept.json["rows"] if row["method"] == name]) == 2
    trace, table = tmp_path / "trace.json", tmp_path / "costs.yaml"
    assert specbench("trace", "--profile", path, "--out", trace).code == 0
    write_costs(table, costs())
    over = ("--over", "draft_length=4", "--over", "link.rtt_ms=0,20", "--json")
    replayed = specbench("replay", trace, "--costs", table, "--method", name, *over)
    assert replayed.code == 0, replayed.err
    near, far = [row for row in replayed.json["rows"] if row["method"] == name]
    assert near["acceptance_rate"] == far["acceptance_rate"] > 0
    assert near["ms_per_token"] < far["ms_per_token"]
    planned = specbench("plan", "--trace", trace, "--costs", table, "--method", name, "--json")
    assert planned.code == 0, planned.err
    assert name in planned.json["methods"]
