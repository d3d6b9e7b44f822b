"""The report as CSV, JSON and Markdown: one header, unrounded figures, tables whole."""

import csv
import io
import json
import re
from dataclasses import replace

from comparisons import CONTROL, pair, run
from pages import EVIL, Tags, evil_run

from specbench.render.report import documents
from specbench.render.report.page import page
from specbench.results.derived import Prediction
from specbench.stats.report import report


def test_csv_has_one_header_and_unrounded_figures():
    made = report([run(pair(24, 1.3, 0.05, categories=2))])
    rows = list(csv.DictReader(io.StringIO(documents.as_csv(made))))
    assert [(row["method"], row["category"]) for row in rows] == [
        (CONTROL, "all"),
        ("m", "all"),
        ("m", "c0"),
        ("m", "c1"),
    ]
    summary = made.comparison.methods[-1]
    assert float(rows[1]["speedup_vs_control"]) == summary.speedup_vs_control
    assert float(rows[1]["interval_low"]) == summary.speedup_interval[0]
    assert rows[0]["acceptance_rate"] == ""


def test_json_holds_the_comparison_and_what_charts_are_made_of():
    made = report([evil_run()])
    document = json.loads(json.dumps(documents.report_document(made), allow_nan=False))
    assert document["methods"].keys() == {CONTROL, f"m{EVIL}"}
    assert document["report"].keys() == {
        "held", "findings", "remarks", "samples", "round_times", "memory", "texts", "runs",
    }  # fmt: skip
    assert document["report"]["runs"]["r1"]["command"].startswith("specbench run ")


def test_no_line_end_and_no_control_character_tears_a_row_of_markdown():
    torn = replace(evil_run().manifest, profile_name="a\rb\r\nc\x00\x1b[0m")
    text = documents.as_markdown(report([replace(evil_run(), manifest=torn)]))
    assert "# a ⏎ b ⏎ c\ufffd" in text
    assert not set(text) & set("\r\x00\x1b")


def test_predicted_stands_beside_measured_on_the_page_and_in_markdown():
    made = report([run(pair(12, 1.3))])
    found = Prediction(
        method="m", run_id="r1", predicted_ms=20.0, measured_ms=25.0, gap=0.25, explained_by="draft"
    )
    made = replace(made, comparison=replace(made.comparison, predictions=(found,)))
    words = "m: 20.00 ms a token by the closed form, 25.00 measured (+25.0%, for draft)"
    assert words in Tags(page(made)).text
    assert words in documents.as_markdown(made)


def test_markdown_keeps_markup_as_text_and_tables_whole():
    text = documents.as_markdown(report([evil_run()]))
    assert "<" not in text.replace("\\<", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    rules = [index for index, line in enumerate(tables) if set(line) <= set("|-: ")]
    assert all(widths[index] == widths[index - 1] == widths[index + 1] for index in rules)
    assert "##" not in text.partition("# Environment")[2].replace("## Reproduce", "")
