"""The charts and the page of a sweep: over draft lengths, over round trips, and as maps."""

import json
from dataclasses import replace

import pytest
from comparisons import CONTROL
from replays import line

from specbench.forecast.grid import Row
from specbench.render.report.grids import grid_markdown
from specbench.render.report.heat import map_drawings
from specbench.render.report.inks import LIGHT
from specbench.render.report.lengths import length_drawings, length_tables, panels
from specbench.render.report.maps import headline, map_page
from specbench.render.report.roundtrips import round_trip_drawings


def test_a_tile_says_who_wins_and_by_how_much():
    (drawing,) = [found for found in map_drawings(line((0, 2.0), (10, 0.5))) if found.name == "winner"]
    assert drawing.description == "link.rtt_ms = 0: speculative 2.00x at 3; link.rtt_ms = 10: the cloud alone"
    spec = drawing.draw(LIGHT, 720).to_dict()
    assert "2.00x at 3" in json.dumps(spec)
    assert map_drawings(line((0, 2.0))[:2])[0].name == "winner"
    assert map_drawings([replace(row, condition={}) for row in line((0, 2.0))]) == []
    assert drawing.figures[0] == {"link.rtt_ms": 0, "shown": "speculative", "value": "2.00x at 3"}


def test_break_even_is_marked_on_the_curve_of_its_method():
    (drawing,) = round_trip_drawings(line((0, 2.0), (10, 0.5)))
    spec = spec_of(drawing)
    assert "speculative breaks even at 5.0 ms" in spec
    assert "breaks even" not in spec_of(round_trip_drawings(line((0, 2.0), (10, 1.5)))[0])
    assert round_trip_drawings(line((0, 2.0))) == []


def test_a_third_axis_is_small_multiples():
    rows = [row for size in (1, 2) for speed in (1, 4)
            for row in line((0, 2.0), (10, 0.5), speed=speed, size=size)]  # fmt: skip
    spec = map_drawings(rows)[0].draw(LIGHT, 760).to_dict()
    assert (len(spec["concat"]), spec["columns"]) == (2, 2)
    assert map_drawings(rows)[0].draw(LIGHT, 340).to_dict()["columns"] == 1
    page = map_page(rows, "t")
    assert '<div class="multiples">' in page
    assert "size = 2" in page


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (line((0, 2.0)), "speculative is faster than the cloud alone: 2.00x with draft length 3"),
        (
            line((0, 2.0), (10, 0.5)),
            "Speculation pays under 1 of 2 conditions: at best speculative, 2.00x with draft length 3 at "
            "link.rtt_ms = 0",
        ),
        (
            line((0, 0.5)),
            "No method is shown to be faster than the cloud alone: the best, speculative, reaches 0.50x with "
            "draft length 3",
        ),
        (line((0, 2.0))[:1], "No method of this sweep can be compared with the cloud alone"),
    ],
)
def test_the_page_of_a_sweep_starts_with_its_answer(rows, told):
    assert headline(rows) == told


def lengthwise(rtts, methods=("speculative",)):
    """Rows of a sweep over three draft lengths, with a round trip where one was swept too."""
    rows = []
    for rtt_ms in rtts:
        condition = {} if rtt_ms is None else {"link.rtt_ms": rtt_ms}
        control = Row(CONTROL, None, condition, 1.0, 9.0, 9.0, 1.0, None, None, 0, measured=True)
        for method in methods:
            for length, speedup in ((1, 1.2), ("auto", 1.25), (4, 1.5)):
                speedup -= (rtt_ms or 0) / 100
                row = replace(control, method=method, draft_length=length, speedup=speedup)
                rows += [control, replace(row, interval=(speedup - 0.1, speedup + 0.1))]
    return rows


def spec_of(drawing):
    return json.dumps(drawing.draw(LIGHT, 720).to_dict())


def test_a_sweep_over_draft_lengths_has_a_chart_of_speed_over_length_with_intervals():
    (drawing,) = length_drawings(lengthwise([None], ("speculative", "speculative_pipelined")))
    assert drawing.name == "draft-length"
    for told in ("speculative, draft length 1: 1.20x (1.10 to 1.30)", "length auto: 1.25x", "length 4: 1.50x"):
        assert told in drawing.description
    spec = spec_of(drawing)
    assert '"low": 1.1' in spec
    assert "datum.value == 5 ? 'auto'" in spec
    assert [panel.key for panel in panels(lengthwise([None]))] == ["method"]
    assert length_drawings(line((0, 2.0))) == [], "one length is no curve"


def test_with_a_round_trip_swept_too_every_one_has_its_line_and_every_method_its_panel():
    rows = lengthwise([0, 40], ("speculative", "speculative_pipelined"))
    found = panels(rows)
    assert [(panel.heading, list(panel.lines)) for panel in found] == [
        ("speculative", ["0", "40"]),
        ("speculative_pipelined", ["0", "40"]),
    ]
    assert {len(each) for panel in found for each in panel.lines.values()} == {3}
    (drawing,) = length_drawings(rows)
    assert "speculative, link.rtt_ms = 40, draft length 4: 1.10x" in drawing.description
    (table, _) = length_tables(rows)
    assert table.columns == ("draft length", "link.rtt_ms = 0", "link.rtt_ms = 40")
    assert table.rows[1] == ("4", "1.50x, 1.40 to 1.60", "(1.10x), 1.00 to 1.20")
    many = length_drawings(lengthwise(range(20)))[0]
    assert "6 of 20 lines are drawn" in many.title
    assert "link.rtt_ms = 19" in many.description


def test_the_page_of_a_draft_length_sweep_shows_lengths_and_no_empty_verdict():
    rows = [replace(row, interval=None) for row in lengthwise([None])]
    text = map_page(rows, "t")
    assert "<h2>Draft length</h2>" in text
    assert "<svg" in text
    assert "undecided" not in text
    assert "Where each method wins" not in text
    both = map_page(lengthwise([0, 40]), "t")
    assert "link.rtt_ms = 40" in both
    assert "Where each method wins" in both
    assert "undecided" not in grid_markdown(rows, "t")
    assert "| 4 | (1.50x) |" in grid_markdown(rows, "t")
