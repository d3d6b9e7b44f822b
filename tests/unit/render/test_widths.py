"""What is printed at the widths that terminals have: no column is lost, no figure is cut or wrapped."""

import io
import re
from dataclasses import replace

import pytest
from comparisons import PROFILE, pair, run
from rich.console import Console

from specbench.benchmark.observer import Progress
from specbench.benchmark.telemetry import MemoryMonitor
from specbench.render import console, tables
from specbench.render.forecasts import FIGURES, grid_table, map_table
from specbench.render.live import LiveView
from specbench.render.report.inks import of_methods
from specbench.render.results import comparison_table
from specbench.render.sweeping import LiveSweepView
from specbench.results.records import Ceiling, Failure, Round
from specbench.stats.comparison import CONTROL, compare
from specbench.sweeps.time_left import SweepProgress

WIDTHS = (60, 80, 100, 120)


def printed(renderable, width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(renderable)
    return console.file.getvalue().splitlines()


@pytest.fixture(scope="module")
def comparison():
    """All columns: drafts of eight tokens, a link, lossy texts, two categories with an interval."""
    name, records = "speculative_pipelined", []
    for record in pair(24, 1.4, 0.05, categories=2, method=name):
        costs = {"uplink_ms": 9.0, "downlink_ms": 9.0, "verify_ms": 12.3, "draft_ms": 4.5, "bytes_up": 120}
        costs |= {"bytes_down": 80, "wasted_draft_tokens": 2, "prefilled": 90}
        drafted = [Round((1,), drafted=8, accepted=0, **costs), Round((1,) * 9, drafted=8, accepted=8, **costs)]
        rounds = (Round((1,)), *drafted)
        if record.method == name:
            arrivals = (10.0, 10 + record.tpot_ms, 10 + 10 * record.tpot_ms)
            record = replace(record, rounds=rounds, arrival_ms=arrivals, verification="greedy")
        records.append(replace(record, category=f"category {record.category}", peak_rss_bytes=10**10))
    profile = {**run([]).manifest.profile}
    return compare([run(records, profile=profile, lossless={CONTROL: True, name: False},
                        ceilings={"cloud": Ceiling(10**8, 10**10)})])  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_every_column_and_every_figure_is_in_the_tables_of_a_run(comparison, width):
    lines = printed(comparison_table(comparison, details=True), width)
    assert max(map(len, lines)) <= width
    assert any(line.lstrip().startswith("cloud_optimized_baseline\u00a0*") for line in lines), (
        "the star keeps its line"
    )
    text = "\n".join(lines)
    control, drafting = sorted(comparison.methods, key=lambda row: row.method != CONTROL)
    headings = [*tables.SPEED_COLUMNS, *tables.TEXT_COLUMNS, *tables.DRAFT_COLUMNS, *tables.LOSSY_COLUMNS]
    headings += tables.CATEGORY_COLUMNS
    for columns in tables.costs.TABLES.values():
        headings += [columns[name] for name in tables.costs.known(comparison.methods, columns)]
    assert len(headings) > 25
    for heading in headings:
        for line in heading.split("\n"):
            assert line in text, f"{line!r} of {heading!r} is lost"
    figures = [*tables.speed_cells(drafting), *tables.speed_cells(control), *tables.text_cells(drafting)]
    figures += [*tables.draft_cells(drafting), *tables.agreement_cells(drafting)]
    figures += [cell for row in comparison.categories for cell in tables.category_cells(row)[:3]]
    for figure in figures:
        for line in figure.split("\n"):
            assert line in text, f"{line!r} is lost"
    assert len(drafting.acceptance.conditional) == 8
    assert "…" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_two_runs_have_rows_that_say_what_differs_and_a_line_for_each_run(width):
    runs = [
        run(
            [replace(each, rounds=(*each.rounds[:-1], replace(each.rounds[-1], drafted=length, accepted=0)))
             if each.method == "m" else each for each in pair(12, 1.4, 0.05)],
            run_id, profile=PROFILE | {"speculative": {"draft_length": length, "verification": "greedy"}},
        )
        for run_id, length in (("r1", 2), ("r2", 4))
    ]  # fmt: skip
    found = compare(runs)
    assert found.control == f"{CONTROL}@r1"
    lines = [line.rstrip() for line in printed(comparison_table(found), width)]
    assert max(map(len, lines)) <= width
    for run_id, length in (("r1", 2), ("r2", 4)):
        assert f"run: {run_id} (draft_length={length})" in lines
        assert any(line.startswith(f"@draft_length={length}") for line in lines)
        assert any(line.startswith(f"@{run_id}") for line in lines)
    assert re.match(r"m@draft_length=\d is fastest: 1\.\d\dx \(", " ".join(lines[:2]))
    looks = of_methods([row.method for row in found.methods], found.control)
    assert len({look for look, _ in looks.values()}) == 3, "a colour for the controls and each row of m"


@pytest.mark.parametrize("width", WIDTHS)
def test_every_column_of_a_grid_and_of_a_map_is_printed(width):
    from replays import line

    rows = [replace(row, condition={"link.rtt_ms": 20, "target.speed": 1.5}) for row in line((0, 2.0))]
    rows += [replace(rows[1], method=name) for name in ("speculative_pipelined", "speculative_colocated")]
    rows.append(replace(rows[1], method="a_method_with_a_name_of_great_length", acceptance_length=3.21))
    grid, shown = printed(grid_table(rows, "t"), width), printed(map_table(rows, "t"), width)
    assert max(map(len, [*grid, *shown])) <= width
    for heading in FIGURES:
        for part in heading.split("\n"):
            assert part in "\n".join(grid)
    assert "3.21" in "\n".join(grid)
    text = "\n".join(shown)
    for part in ("link.rtt_ms", "target.speed", "cloud alone", "fastest", "pipelined", "colocated", "length"):
        assert part in text
    assert text.count("2.00x at 3") == 4
    assert "…" not in text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("done", [0, 3])
def test_a_live_row_keeps_its_lines_whatever_is_known_of_the_time_left(width, done, monkeypatch):
    monkeypatch.setattr(console, "err", Console(file=io.StringIO(), width=width))
    names = ("cloud_optimized_baseline", "speculative_pipelined")
    view = LiveView()
    with MemoryMonitor(10_000) as monitor:
        view.started([Progress(name, 0, 120) for name in names], monitor)
        for name in names:
            view.advanced(Progress(name, done, 120, tokens=3000, busy_ms=9000.0, drafted=900, accepted=450))
        table, below = view.bars.get_renderables()
        view.close()
    (total,) = printed(table, width)
    assert f"{done * 2}/240" in total
    assert total.count(" left") == 1
    heading, *rows, memory = printed(below, width)[: len(names) + 2]
    assert "GB" in memory
    shown = ["done", "speed-up so far", "tok/s", "accept rate"][: 4 if width >= 80 else 2]
    assert all(part in heading for part in shown)
    for name, row in zip(names, rows, strict=True):
        figures = (name, f"{done}/120", "333.3", "0.50")
        assert all(part in row for part in figures[: 4 if width >= 80 else 2])


def test_the_live_view_shows_each_speed_up_with_its_interval_and_expects_nothing_of_a_failed_method(
    monkeypatch,
):
    monkeypatch.setattr(console, "err", Console(file=io.StringIO(), width=100))
    view, names = LiveView(), (CONTROL, "m", "other")
    with MemoryMonitor(10_000) as monitor:
        view.started([Progress(name, 0, 12) for name in names], monitor)
        progress = {name: Progress(name, 0, 12) for name in names}
        for record in pair(12, 1.4, 0.05):
            progress[record.method] = progress[record.method].after_prompt([replace(record, lossless=True)])
            view.advanced(progress[record.method])
            if record.method == "m" and record.prompt_id == "10":
                assert " to " not in "\n".join(printed(list(view.bars.get_renderables())[1], 100))
        view.failed(Failure("other", "1", "it broke", None))
        table, below = view.bars.get_renderables()
        view.close()
    (row,) = [line for line in printed(below, 100) if line.startswith("m ")]
    assert re.search(r"1\.\d\dx \(1\.\d\d to 1\.\d\d\)", row)
    assert "24/24" in printed(table, 100)[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sweep_in_progress_shows_its_condition_whole(width, monkeypatch):
    monkeypatch.setattr(console, "err", Console(file=io.StringIO(), width=width))
    condition = "speculative.draft_length=4, link.rtt_ms=100"
    view = LiveSweepView()
    view.advanced(SweepProgress(total=12, done=3, condition=condition, answers=4, answers_total=24))
    text = "\n".join(printed(view.bars.get_renderable(), width))
    view.close()
    for part in ("sweep", "3/12 conditions", "time left unknown", "this one", "4/24 answers", condition):
        assert part in text
