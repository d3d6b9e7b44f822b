"""Rows of a stored sweep: what they claim, what is left out, and how the sweep ends."""

import html
from dataclasses import replace

import msgspec
import pytest
from comparisons import PROFILE, pair, run

from specbench.benchmark import sweep_record as sweeps
from specbench.forecast.grid import best, winner
from specbench.profile import load_profile
from specbench.render.forecasts import cell_text, verdicts
from specbench.render.report.maps import map_page
from specbench.results.records import CONTROL, Divergence, EnergyCounter, Failure, Written
from specbench.results.records.energy import EnergyUse
from specbench.results.store import RunStore
from specbench.stats.comparison import compare
from specbench.stats.notes import WRONG
from specbench.sweeps.rows import swept

BUG = Divergence("m", "1", 0, 0, 3, (1, 2), verdict="bug")
ENDS = [
    ({"precision_problems": ("the edge is float16",)}, 1, "precision of run r0: the edge is float16"),
    ({"failures": (Failure("m", None, "it broke"),), "status": "failed"}, 7, "m failed in run r0: it broke"),
    ({"divergences": (BUG,)}, 9, "1 text of m in run r0 differed from the control's, and no tie explains"),
]


def stored_sweep(store, *runs, over=None):
    """A finished sweep of these runs."""
    for each in runs:
        store.create(each.manifest).append(
            [replace(one, arrival_ms=tuple(map(float, one.arrival_ms))) for one in each.generations]
        )
    over = over or {"link.rtt_ms": list(range(len(runs)))}
    settings = load_profile("default").model_dump(mode="json")
    asked = sweeps.Sweep(store.new_id(), ("m",), "default", ("workload.limit=12",), over, settings)
    ids = {index: each.manifest.run_id for index, each in enumerate(runs)}
    asked = replace(asked, runs=ids, finished=tuple(ids))
    sweeps.write(store, asked)
    return asked


@pytest.mark.parametrize(("changes", "code", "words"), ENDS, ids=["precision", "failure", "bug"])
def test_a_sweep_ends_as_its_worst_run_did_and_says_why_on_every_map(specbench, tmp_path, changes, code, words):
    store = RunStore(tmp_path / "runs")
    asked = stored_sweep(store, run(pair(12, 1.4, 0.05), "r0", **changes), run(pair(12, 1.4, 0.05), "r1"))
    shown = specbench("sweep", "--resume", asked.sweep_id, "--html", tmp_path / "map.html")
    assert shown.code == code
    assert f"link.rtt_ms=0: {words}" in " ".join(shown.out.split())
    assert words in html.unescape((tmp_path / "map.html").read_text())
    told = specbench("report", asked.sweep_id, "--format", "md").out
    assert words in told.replace("\\", "")
    told = specbench("sweep", "--resume", asked.sweep_id, "--json")
    assert told.code == code
    assert [note for note in told.json["notes"] if words in note]


def test_of_several_ends_the_sweep_has_the_gravest(tmp_path):
    store = RunStore(tmp_path)
    runs = [run(pair(12, 1.4), f"r{index}", **changes) for index, (changes, _, _) in enumerate(ENDS)]
    assert swept(stored_sweep(store, *runs), store).code == 9


def test_a_run_that_answered_nothing_is_left_out_and_its_end_is_not(tmp_path):
    store, broken = RunStore(tmp_path), run(pair(12, 1.4), "r0", failures=(Failure("m", None, "it broke"),))
    made = swept(stored_sweep(store, replace(broken, generations=())), store)
    assert (made.rows, made.code) == ([], 7)
    assert "it broke" in made.notes[0]


def test_a_run_whose_file_lost_lines_is_left_out_of_the_map_by_name(tmp_path):
    store = RunStore(tmp_path)
    asked = stored_sweep(
        store, run(pair(12, 1.4), "r0"), run(pair(12, 1.4), "r1"), over={"link.rtt_ms": [0, 9]}
    )
    cut = tmp_path / "r1" / "generations.jsonl"
    known = store.read("r1").manifest
    whole = replace(known, generations=Written(24, "sum of what was written"))
    (tmp_path / "r1" / "manifest.json").write_bytes(msgspec.json.encode(whole))
    cut.write_bytes(b"".join(cut.read_bytes().splitlines(keepends=True)[:9]))
    made = swept(asked, store)
    assert {row.condition["link.rtt_ms"] for row in made.rows} == {0}
    assert "15 of 24 answers of run r1 are missing" in made.left_out[0]


def test_a_method_that_says_what_is_wrong_wins_nothing(specbench, tmp_path):
    store = RunStore(tmp_path / "runs")
    lengths = {"speculative.draft_length": [1, 2]}
    wrong, right = run(pair(12, 3.0, 0.05), "r0", divergences=(BUG,)), run(pair(12, 1.4, 0.05), "r1")
    asked = stored_sweep(store, wrong, right, over=lengths)
    rows = [row for row in swept(asked, store).rows if row.method == "m"]
    assert [(row.competes, row.pays, row.bugs) for row in rows] == [(False, False, 1), (True, True, 0)]
    assert winner(best(rows)[0]) is rows[1]
    slower = replace(rows[1], speedup=0.9)
    assert best([rows[0], slower])[0]["m"] is slower
    assert verdicts(rows)[0].startswith("m: at best 1.39 times")
    assert verdicts(rows[:1]) == [f"m: no verdict, its texts {WRONG}."]
    assert cell_text(rows[0]).endswith(") bug")


def test_an_interval_of_the_best_of_several_lengths_is_wider_than_that_of_one(tmp_path):
    store = RunStore(tmp_path)
    runs = [run(pair(24, 1.03 if index == 1 else 1.0, 0.07), f"r{index}") for index in range(8)]
    asked = stored_sweep(store, *runs, over={"speculative.draft_length": list(range(1, 9))})
    (alone,) = [row for row in compare([runs[1]]).methods if row.method == "m"]
    assert alone.speedup_interval[0] > 1
    rows = [row for row in swept(asked, store).rows if row.method == "m"]
    assert all(row.is_open for row in rows)
    assert rows[1].interval[0] < alone.speedup_interval[0]
    (single,) = [row for row in swept(replace(asked, runs={1: "r1"}), store).rows if row.method == "m"]
    assert single.interval == alone.speedup_interval


def test_a_sweep_says_what_was_measured_and_what_moved_meanwhile(tmp_path):
    store = RunStore(tmp_path)
    far = {**PROFILE, "link": {"rtt_ms": 20.0}}
    there = {"machine": {"cpu": "two"}, "versions": {"torch": "9"}, "profile": far}
    here = {"machine": {"cpu": "one"}, "versions": {"torch": "8"}}
    asked = stored_sweep(store, run(pair(12, 1.4), "r0", **here), run(pair(12, 1.4), "r1", **there))
    made = swept(asked, store)
    for words in ("co-located", "round trip 20 ms", "cloud float32", "eager engine", "1 thread",
                  "prompt, at most 8 tokens", "workload.limit=12"):  # fmt: skip
        assert words in made.title
    assert made.title.count("eager") == 1
    assert made.notes == [
        "link.rtt_ms=1: versions.torch of run r1 is 9, and of run r0 8",
        "link.rtt_ms=1: machine.cpu of run r1 is two, and of run r0 one",
    ]
    assert made.code == 0


EDGE = EnergyCounter("package-0", "RAPL", "processor", ("edge",))
CLOUD = EnergyCounter("cloud gpu 0", "NVML", "gpu", ("cloud",))
JOINT = replace(EDGE, roles=("edge", "cloud"))


def powered(run_id, counters, **joules):
    """A run of two roles in which the control takes 27 J, and the method so many."""
    known = {CONTROL: {"cloud gpu 0": 18.0, "package-0": 9.0}, "m": joules}
    records = [replace(one, energy=EnergyUse(1.0, known[one.method])) for one in pair(12, 1.4, 0.05)]
    return run(records, run_id, energy_counters=counters, models={"edge": {}, "cloud": {}})


def test_a_measured_map_names_the_greenest_method_and_says_that_it_was_measured(specbench, tmp_path):
    joules = {"cloud gpu 0": 9.0, "package-0": 36.0}
    store = RunStore(tmp_path / "runs")
    asked = stored_sweep(store, *(powered(f"r{index}", (EDGE, CLOUD), **joules) for index in range(2)))
    made = swept(asked, store)
    control, method = made.rows[:2]
    assert (control.joules_per_token, method.joules_per_token) == (3.0, 5.0)
    assert (method.edge_joules_per_token, method.cloud_joules_per_token) == (4.0, 1.0)
    shown = specbench("sweep", "--resume", asked.sweep_id).out
    assert "Measured: the fastest and greenest are not one method under 2 of 2 conditions" in shown
    assert "odelled" not in shown
    page = map_page(made.rows, "a sweep")
    assert "greenest (measured)" in page
    assert "odelled" not in page


@pytest.mark.parametrize(
    ("counters", "whole", "edge"), [((EDGE,), None, 1.0), ((JOINT,), 1.0, None), ((JOINT, CLOUD), 3.0, None)]
)
def test_a_row_has_the_joules_of_a_role_where_counters_tell_it_apart_and_all_where_they_cover_all(
    tmp_path, counters, whole, edge
):
    store = RunStore(tmp_path)
    made = swept(stored_sweep(store, powered("r0", counters, **{"cloud gpu 0": 18.0, "package-0": 9.0})), store)
    (row,) = [row for row in made.rows if row.method == "m"]
    assert (row.joules_per_token, row.edge_joules_per_token) == (whole, edge)
    assert row.cloud_joules_per_token is None


def test_a_rows_cost_is_that_of_the_time_the_cloud_computes(tmp_path):
    prices = {"prices": {"edge_per_hour": 0.1, "cloud_per_hour": 2.0}}
    store = RunStore(tmp_path)
    made = swept(stored_sweep(store, run(pair(12, 1.4), "r0", profile={**PROFILE, **prices})), store)
    found = compare([store.read("r0")]).methods
    assert [row.cost_per_million for row in made.rows] == [each.money.shared for each in found]
