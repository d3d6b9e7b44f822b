"""What the charts of a report draw, and their files: sizes, figures, chosen methods."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from comparisons import CONTROL, pair, run
from pages import evil_run

from specbench.errors import SpecbenchError
from specbench.render.report import charts, pictures
from specbench.render.report.audit import held_lines
from specbench.render.report.inks import LIGHT
from specbench.render.report.speedups import APART, categories, speedups, ticks
from specbench.stats.fairness import EQUAL, NOT_EQUAL, ON_PURPOSE, UNKNOWN, Held
from specbench.stats.headline import compared, leader, ranked
from specbench.stats.report import report
from specbench.stats.timings import RoundTime


def several(**lossless):
    """A report of methods by name, each with its speed-up; those named here with their losslessness."""
    speeds = {"slow": 0.8, "quick": 2.0, "lossy": 3.0}
    records = [*pair(24, 1.0, 0.05, method="plain")]
    for name, factor in speeds.items():
        records += [each for each in pair(24, factor, 0.05, categories=2, method=name) if each.method == name]
    names = dict.fromkeys((CONTROL, "plain", *speeds), True)
    return report([run(records, lossless={**names, **lossless})])


def spec_of(drawing):
    return json.dumps(drawing.draw(LIGHT, 760).to_dict())


def drawn(drawing, width=760):
    """The rows of all marks."""
    return [row for rows in drawing.draw(LIGHT, width).to_dict()["datasets"].values() for row in rows]


def colors(report):
    return {row["method"]: row["tint"] for row in drawn(speedups(report)) if "tint" in row}


def test_speed_ups_are_sorted_and_what_may_differ_in_text_stands_apart():
    drawing = speedups(several(lossy=False))
    assert [row["method"] for row in drawing.figures] == ["quick", "plain", "slow", "lossy"]
    assert [row["lossless"] for row in drawing.figures] == [True, True, True, False]
    assert all(row["interval_low"] < row["speedup"] < row["interval_high"] for row in drawing.figures)
    assert APART in spec_of(drawing)
    assert APART not in spec_of(speedups(several()))
    labels = drawing.description.split("; ")
    assert labels[0].startswith("▲ quick · ")
    assert labels[0].endswith(", faster")
    assert labels[2].startswith("▼ slow · ")
    assert labels[3].startswith("lossy · 3."), "no sign"
    assert labels[3].endswith(")"), "no verdict"
    assert {row["category"] for row in categories(several()).figures} == {"c0", "c1"}


def test_a_long_label_is_shortened_where_it_has_no_room():
    drawing = speedups(several())
    labels = [[row["label"] for row in drawn(drawing, width) if row.get("weight")] for width in (760, 150)]
    assert labels[0][0].endswith(", faster")
    assert labels[1][0] == labels[0][0].removesuffix(", faster")


def test_the_line_at_1_has_its_label_however_narrow_the_chart():
    assert ticks(0.5, 1.6, 300) == [0.5, 0.8, 1, 1.25, 1.5]
    assert ticks(0.5, 1.6, 60) == [1]
    assert len(ticks(0.5, 1.6, 760)) > 5
    for width in (300, 760):
        assert ">1x</text>" in pictures.on_page(speedups(several()), width)


def test_the_time_of_a_round_is_divided_among_its_tokens():
    found = RoundTime("m", 9, 2.5, 50.0, 10.0, None, 35.0, 5.0)
    assert found.ms_per_token == 20.0
    assert found.parts_per_token == {"draft": 4.0, "verify": 14.0, "other": 2.0}
    (drawing,) = [each for each in charts.drawings(report([evil_run()])) if each.name == "time"]
    ours = [row for row in drawing.figures if row["method"] != CONTROL]
    assert [row["part"] for row in ours] == ["draft", "verify", "other"]
    assert "ms a token" in drawing.description


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The charts of one report in one column of a paper."""
    folder = tmp_path_factory.mktemp("charts")
    pictures.write_files(charts.drawings(report([evil_run()])), folder, 84.0)
    return folder


def test_a_chart_has_the_width_that_is_asked_for_in_all_three_forms(files):
    text = (files / "speedup.svg").read_text(encoding="utf-8")
    width = float(re.search(r'<svg[^>]* width="([\d.]+)mm"', text)[1])
    assert width == pytest.approx(84, abs=1)
    pixels = int.from_bytes((files / "speedup.png").read_bytes()[16:20], "big")
    assert pixels == pytest.approx(84 / 25.4 * pictures.PNG_PPI, abs=8)
    box = re.search(rb"/MediaBox ?\[([\d. ]+)\]", (files / "speedup.pdf").read_bytes())
    points = float(box[1].split()[2])
    assert points == pytest.approx(84 / 25.4 * 72, abs=3)
    sizes = {float(size) for size in re.findall(r'font-size="([\d.]+)px"', text)}
    assert min(sizes) * pictures.POINTS_PER_PX >= 8


def test_every_part_of_the_time_has_its_own_shade(files):
    shades = set(
        re.findall(r'aria-label="[^"]* ms a token"[^>]* opacity="([\d.]+)"', (files / "time.svg").read_text())
    )
    assert {"0.55", "0.15"} <= shades


def test_every_chart_stands_beside_the_figures_that_it_draws(files):
    stems = {path.stem for path in files.iterdir()}
    assert {path.name for path in files.iterdir()} == {
        f"{stem}.{form}" for stem in stems for form in ("svg", "png", "pdf", "csv")
    }
    made = report([evil_run()])
    for drawing in charts.drawings(made):
        rows = list(csv.DictReader(io.StringIO((files / f"{drawing.name}.csv").read_text(encoding="utf-8"))))
        assert len(rows) == len(drawing.figures) > 0, drawing.name
        assert all(None not in row and None not in row.values() for row in rows), drawing.name
    (row,) = csv.DictReader(io.StringIO((files / "speedup.csv").read_text(encoding="utf-8")))
    assert float(row["speedup"]) == made.comparison.methods[-1].speedup_vs_control


def test_charts_show_the_methods_that_are_chosen_in_their_own_colours():
    made = several()
    chosen = charts.chosen(made, ["quick"])
    for drawing in charts.drawings(chosen):
        assert {row["method"] for row in drawing.figures} == {"quick"}, drawing.name
    assert colors(chosen) == {"quick": colors(made)["quick"]}
    with pytest.raises(SpecbenchError, match="no method 'quik' in this report"):
        charts.chosen(made, ["quik"])


def test_what_was_held_equal_is_one_line_and_each_failing_is_another():
    rows = tuple(Held(word, "value", word) for word in (UNKNOWN, ON_PURPOSE, NOT_EQUAL, EQUAL))
    lines = held_lines(replace(several(), held=rows))
    assert [(line.sign, line.tone) for line in lines] == [("✓", "good"), ("≠", "bad"), ("?", "bad"), ("•", "")]
    assert [line.subjects for line in lines] == [EQUAL, NOT_EQUAL, UNKNOWN, ON_PURPOSE]


def test_rows_are_ranked_controls_first_and_then_by_text_and_speed():
    made = several(lossy=False, slow=None).comparison
    assert [row.method for row in ranked(made)] == [CONTROL, "quick", "plain", "lossy", "slow"]
    assert [row.method for row in compared(made)] == ["quick", "plain", "lossy"]
    assert leader(made).method == "quick"
    assert leader(replace(made, unfair=("threads",))) is None
