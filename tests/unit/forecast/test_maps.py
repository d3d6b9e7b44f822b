"""The break-even map and the maps of a grid, as files and as a page of a stored sweep."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from builders import manifest
from comparisons import CONTROL, pair, run
from replays import costs, drawn, line, trace

from specbench.benchmark import sweep_record as sweeps
from specbench.forecast.acceptance_trace import write_trace
from specbench.forecast.breakeven import break_evens
from specbench.forecast.grid import grid, winner
from specbench.profile.cost_table import write_costs
from specbench.render.forecasts import verdicts
from specbench.render.precision import audit_columns
from specbench.render.report.grids import grid_csv, grid_markdown
from specbench.results.store import RunStore


@pytest.mark.parametrize(
    ("points", "rtt_ms", "beyond"),
    [
        ([(0, 2.0), (10, 0.5)], 5.0, False),
        ([(10, 0.5), (0, 2.0)], 5.0, False),
        ([(0, 2.0), (10, 1.0)], 10.0, False),
        ([(0, 2.0), (10, 1.1)], 10.0, True),
        ([(0, 0.9), (10, 0.5)], None, False),
    ],
)
def test_break_even_lies_on_a_line_between_two_round_trips(points, rtt_ms, beyond):
    (found,) = break_evens(line(*points))
    assert (found.rtt_ms, found.beyond) == (pytest.approx(rtt_ms) if rtt_ms else rtt_ms, beyond)


def measured(*points):
    """Rows of a sweep, with the intervals that their speed-ups have."""
    found = line(*((rtt_ms, speedup) for rtt_ms, speedup, _ in points))
    known = {rtt_ms: interval for rtt_ms, _, interval in points}
    return [replace(row, measured=True, interval=known[row.condition["link.rtt_ms"]]) for row in found]


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([(0, 2.0, (1.5, 2.5)), (10, 0.5, (0.4, 0.6))], "; by round trip, it pays up to 5.0 ms."),
        (
            [(0, 2.0, (1.5, 2.5)), (10, 0.9, (0.7, 1.1))],
            "; by round trip, it pays up to 0 ms, undecided beyond.",
        ),
        ([(0, 2.0, (1.5, 2.5)), (10, 0.9, None)], "; by round trip, it pays up to 0 ms, undecided beyond."),
        ([(0, 2.0, (1.5, 2.5)), (10, 1.9, (1.2, 2.5))], "; by round trip, it pays up to 10 ms at least."),
        ([(0, 1.03, (0.7, 1.5)), (10, 0.5, (0.4, 0.6))], ", which is inconclusive."),
        ([(0, 1.2, (0.9, 1.5)), (5, 1.4, (1.1, 1.8)), (10, 0.5, (0.4, 0.6))], "draft length 3."),
    ],
)
def test_a_round_trip_up_to_which_a_method_pays_is_named_as_far_as_the_intervals_show_it(points, told):
    rows = measured(*points)
    assert verdicts(rows)[0].endswith(told)
    (found,) = break_evens(rows)
    assert found.undecided == ("undecided" in told or "by round trip" not in told)
    assert "would pay" not in grid_markdown(rows, "t")


def test_break_even_is_where_the_closed_form_of_a_replay_has_it():
    texts = [drawn(1.0, 61)]
    rows = list(grid(texts, costs(draft__read_ms=0.0), ["speculative"], [3], {"link.rtt_ms": range(0, 60, 2)}))
    (found,) = break_evens(rows)
    # Fifteen rounds of three drafted tokens and one more, at 3 * 2 + 23 ms, against sixty steps of 20 ms.
    assert found.rtt_ms == pytest.approx(4 * 20.0 - 29.0, abs=0.1)


def test_every_other_condition_has_a_break_even_of_its_own_and_one_round_trip_has_none():
    rows = line((0, 2.0), (10, 0.5), speed=1) + line((0, 2.0), (10, 1.5), speed=4)
    assert [(even.condition, even.beyond) for even in break_evens(rows)] == [
        ({"speed": 1}, False),
        ({"speed": 4}, True),
    ]
    assert break_evens(line((5, 2.0))) == []


@pytest.fixture
def files(tmp_path):
    write_trace(tmp_path / "t.json", trace())
    write_costs(tmp_path / "c.yaml", costs())
    return tmp_path / "t.json", "--costs", tmp_path / "c.yaml"


def test_a_replayed_grid_is_written_as_pictures_and_figures(specbench, files, tmp_path):
    over = ("--over", "link.rtt_ms=0,40", "--over", "target.speed=1,4", "--over", "draft_length=2")
    chosen = ("--charts", tmp_path / "maps", "--chart-width-mm", "84")
    done = specbench("replay", *files, *over, *chosen, "--json")
    assert done.code == 0, done.err
    names = {path.stem: path for path in (tmp_path / "maps").iterdir()}
    methods = {"speculative", "speculative_pipelined", "speculative_colocated"}
    assert names.keys() == {"winner", "break-even", "grid", *methods}
    for stem in names.keys() - {"grid"}:
        for form, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("csv", b"link.rtt_ms,")):
            assert (tmp_path / "maps" / f"{stem}.{form}").read_bytes().startswith(start)
    width = re.search(r'width="([\d.]+)mm"', (tmp_path / "maps" / "winner.svg").read_text())
    assert width
    assert abs(float(width[1]) - 84) < 2
    assert (tmp_path / "maps" / "break-even.csv").read_text().startswith("link.rtt_ms,target.speed,method,")
    assert json.loads((tmp_path / "maps" / "grid.json").read_text()) == done.json
    assert len(done.json["break_even"]) == 2 * len(methods)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "maps" / "grid.csv").read_text())))
    assert len(rows) == len(done.json["rows"])
    assert rows[1]["target.speed"] == "1"
    assert float(rows[1]["speedup"]) == done.json["rows"][1]["speedup"]


def test_a_grid_is_shown_even_where_its_files_then_cannot_be_written(specbench, files, tmp_path):
    (tmp_path / "maps" / "grid.csv").mkdir(parents=True)
    done = specbench("replay", *files, "--over", "link.rtt_ms=0,40", "--charts", tmp_path / "maps")
    assert done.code == 5
    assert "the charts cannot be written" in done.err
    assert "link.rtt_ms" in done.out


def test_a_text_that_is_not_the_clouds_wins_nothing_and_is_called_so():
    control, fair = line((0, 2.0))
    edge = replace(fair, method="edge_baseline", draft_length=None, speedup=9.0, lossless=None)
    assert winner({row.method: row for row in (control, fair, edge)}) is fair
    assert winner({row.method: row for row in (control, edge)}) is control
    rows = line((0, 2.0), (10, 0.5))
    rows += [replace(edge, condition={"link.rtt_ms": rtt_ms}) for rtt_ms in (0, 10)]
    assert [even.method for even in break_evens(rows)] == ["speculative"]
    assert [told.split(" ")[0] for told in verdicts(rows[-2:] + rows[:-2])] == ["speculative", "edge_baseline:"]
    assert verdicts(rows)[-1] == (
        "edge_baseline: no verdict, its text is not the cloud's, and speeds are compared for the same text "
        "only."
    )


def test_csv_and_markdown_hold_no_table_broken_by_a_value():
    rows = [replace(row, condition={"edge.model": "a|b,c\n"}) for row in line((0, 2.0))]
    assert len(list(csv.reader(io.StringIO(grid_csv(rows))))) == 3
    table = [text for text in grid_markdown(rows, "t").splitlines() if text.startswith("|")]
    assert {text.replace("\\|", "").count("|") for text in table} == {5}


@pytest.fixture
def swept(tmp_path):
    """A stored sweep of two conditions, of which the first has a run."""
    store = RunStore(tmp_path / "runs")
    stored = run(pair(12, 1.4, 0.05, method="speculative"), "r1", methods=(CONTROL, "speculative"))
    records = [replace(each, arrival_ms=tuple(map(float, each.arrival_ms))) for each in stored.generations]
    store.create(stored.manifest).append(records)
    over = {"link.rtt_ms": [0, 5]}
    asked = sweeps.Sweep("s1", ("speculative",), "default", (), over, {}, runs={0: "r1"}, finished=(0,))
    sweeps.write(store, asked)
    return tmp_path


def test_a_stored_sweep_is_rendered_again_whatever_became_of_its_profile(specbench, swept, tmp_path):
    page = specbench("report", "s1", "--out", tmp_path / "page.html", "--charts", tmp_path / "maps")
    assert page.code == 0, page.err
    assert "no stored run" in page.err
    assert "sweep s1" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "maps" / "winner.png").exists()
    assert [row["method"] for row in json.loads(specbench("report", "s1", "--format", "json").out)["rows"]] == [
        CONTROL,
        "speculative",
    ]
    assert specbench("report", "s1", "--format", "csv").out.startswith("link.rtt_ms,method,")
    assert "1.39x" in specbench("report", "s1", "--format", "md").out
    named = tmp_path / "page.md"
    assert specbench("report", "s1", "--out", named).code == 0
    assert named.read_text() == specbench("report", "s1", "--format", "md").out
    refused = specbench("report", "s1", "--out", named, "--format", "html")
    assert (refused.code, "whose suffix means md" in refused.err) == (2, True)
    compared = specbench("compare", "s1")
    assert (compared.code, "s1 is a sweep" in compared.err) == (5, True)
    assert "show it with 'specbench report s1'" in compared.err


def test_a_sweep_without_a_run_says_how_to_go_on(specbench, swept):
    store = RunStore(swept / "runs")
    sweeps.write(store, replace(sweeps.read(store, "s1"), runs={}, finished=()))
    done = specbench("report", "s1")
    assert done.code == 5
    assert "sweep --resume s1" in done.err


def test_a_second_draft_is_called_the_one_in_the_cloud():
    from specbench.results.records import Audit

    parts = [
        Audit(role, "m", "cpu", "float32", 9, (), (), "float32", (), ()) for role in ("edge", "cloud", "edge")
    ]
    assert audit_columns(parts) == ["edge: m", "cloud: m", "draft in the cloud: m"]
    assert audit_columns(parts[1:]) == ["cloud: m", "draft in the cloud: m"]
    assert audit_columns(manifest().audits) == []
