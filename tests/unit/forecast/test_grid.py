"""Replays over a grid: what is asked, what is refused, which rows win, tables and pages."""

import io
import json
from dataclasses import replace

import pytest
import yaml
from replays import TABLE, costs, drawn, trace
from rich.console import Console

from specbench.forecast.acceptance_trace import write_trace
from specbench.forecast.grid import Row, best, grid
from specbench.forecast.over import lengths_of, parse_over
from specbench.forecast.replay import CONTROL, SCHEDULES
from specbench.profile.cost_table import read_costs, write_costs
from specbench.render.forecasts import map_table
from specbench.render.report.maps import map_page


@pytest.mark.slow
def test_the_page_of_a_grid_is_a_map_without_scripts_that_keeps_markup_as_text(replayed, specbench, tmp_path):
    table = costs().model_copy(update={"description": "<script>alert(1)</script>"})
    write_costs(tmp_path / "c.yaml", table)
    page = tmp_path / "map.html"
    over = ("--over", "link.rtt_ms=0,20,100", "--over", "target.speed=1,4", "--over", "draft.speed=1,8")
    done = specbench("replay", *replayed, *over, "--html", page)
    assert done.code == 0, done.err
    text = page.read_text()
    assert text.count("<table>") == 1 + 2 * (1 + len(SCHEDULES)) + 4 * len(SCHEDULES)
    assert text.count('class="heat"') == 12 * (1 + len(SCHEDULES))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/", "")
    assert "draft.speed = 8" in text
    assert ">speculative_colocated 2" in text


def test_a_page_of_one_condition_or_of_one_key_can_be_written_too(replayed, specbench, tmp_path):
    for over in ((), ("--over", "link.rtt_ms=0,20")):
        done = specbench("replay", *replayed, *over, "--html", tmp_path / "map.html")
        assert done.code == 0, done.err
        assert f"{2 if over else 1} conditions" in (tmp_path / "map.html").read_text() or not over
    assert specbench("replay", *replayed, "--html", tmp_path / "no" / "map.html").code == 5


def test_thousands_of_conditions_cost_no_more_rounds_than_one(monkeypatch):
    texts, counted = [drawn(0.7, 60)], []
    from specbench.forecast import replay as module

    def counting(text, prices, method, length):
        counted.append((method.name, length))
        return play(text, prices, method, length)

    play = module.play
    monkeypatch.setattr(module, "play", counting)
    over = {"link.rtt_ms": [float(rtt) for rtt in range(500)]}
    rows = list(grid(texts, costs(), ["speculative"], [1, 2], over))
    assert len(rows) == 500 * 3
    assert counted == [(CONTROL, 1), ("speculative", 1), ("speculative", 2)]
    assert len(best(rows)) == 500


def test_the_table_says_so_when_nothing_beats_the_cloud_alone(replayed, specbench):
    done = specbench("replay", *replayed, "--over", "draft.step_ms=500,900", "--over", "draft_length=4")
    assert done.out.count("under any of 2 conditions") == len(SCHEDULES)
    assert sum(line.rstrip().endswith("  the cloud alone") for line in done.out.splitlines()) == 2


def measured(speedup, interval, method="speculative", length=3, rtt_ms=0):
    """A control and one other row, as of a stored run."""
    control = Row(CONTROL, None, {"link.rtt_ms": rtt_ms}, 1.0, 40.0, 40.0, 1.0, None, None, 0, None, True)
    other = replace(control, method=method, draft_length=length, speedup=speedup, interval=interval)
    return [control, other]


@pytest.mark.parametrize(
    ("speedup", "interval", "cell", "wins"),
    [
        (1.3, (1.1, 1.5), "1.30x at 3", "speculative"),
        (1.3, (0.9, 1.5), "(1.30x at 3)", "undecided"),
        (1.3, None, "(1.30x at 3)", "undecided"),
        (0.8, (0.7, 0.9), "0.80x at 3", "the cloud alone"),
        (0.8, None, "(0.80x at 3)", "undecided"),
    ],
)
def test_a_measured_row_pays_only_where_its_interval_says_so(speedup, interval, cell, wins):
    rows = measured(speedup, interval) + measured(speedup, interval, rtt_ms=9)
    console = Console(width=240, file=io.StringIO())
    console.print(map_table(rows, "a sweep"))
    shown = console.file.getvalue()
    assert shown.count(f" {cell} ") == 2
    assert shown.count(f" {wins}") >= 2
    assert f"under {2 if wins == 'speculative' else 'any'} of 2" in shown
    assert ("which is inconclusive" in shown) == (wins == "undecided" and interval is not None)
    assert ("with too few prompts for an interval" in shown) == (interval is None)
    assert ("is not shown to be faster" in shown) == (wins == "undecided")
    assert f">{wins}" in map_page(rows, "a sweep")


def test_a_draft_length_that_pays_goes_before_a_faster_one_that_may_not():
    rows = [*measured(1.2, (1.1, 1.3)), measured(1.4, (0.9, 2.0), length=5)[1]]
    assert best(rows)[0]["speculative"].draft_length == 3


def test_lists_are_values_too():
    assert parse_over(["edge.cpus=[0,1],[2,3]", "a=x"]) == {"edge.cpus": [[0, 1], [2, 3]], "a": ["x"]}
    rows = [replace(row, condition={"edge.cpus": [cpu]}) for cpu in (0, 1) for row in measured(1.3, (1.1, 1.5))]
    assert len(best(rows)) == 2
    assert "[1]" in map_page(rows, "a sweep")


def test_draft_lengths_are_taken_out_of_a_grid():
    over = parse_over(["draft_length=2,auto", "link.rtt_ms=0, 5"])
    assert lengths_of(over) == [2, "auto"]
    assert over == {"link.rtt_ms": [0, 5]}
    assert lengths_of({}) == list(range(1, 9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over", "rtt=1"], "no value 'rtt'"),
        (["--over", "link=1"], "no value 'link'"),
        (["--over", "link.rtt_ms"], "key=values"),
        (["--over", "link.rtt_ms=-5"], "link.rtt_ms"),
        (["--over", "link.rtt_ms=fast"], "link.rtt_ms"),
        (["--over", "draft_length=0"], "draft_length"),
        (["--over", "draft_length=9..2"], "range"),
        (["--over", "agreement=80"], "agreement"),
        (["--over", "agreement=[0.5]"], "agreement"),
        (["--over", "agreement=1,true"], "agreement"),
        (["--over", "agreement=2026-01-01"], "agreement"),
        (["--over", "verification=[rank]"], "verification"),
        (["--over", "temperature=[0.5]"], "temperature"),
        (["--over", "gate.entropy=[0.5]"], "is not a number"),
        (["--over", "clients=0"], "clients"),
        (["--over", "clients=2", "--over", "draft_length=auto"], "several clients"),
        (["--over", "gate.entropy=x"], "is not a number"),
        (["--over", "gate.entropy=1", "--over", "gate.margin=0.5"], "one gate"),
        (
            ["--over", "gate.entropy=1", "--method", "speculative_pipelined"],
            "not supported by speculative_pipelined",
        ),
        (["--over", "draft_length=1..8", "--over", "draft_length=2"], "once"),
        (["--over", "temperature=0", "--over", "decoding.temperature=1"], "temperature twice"),
        (["--over", "edge.model=a,b"], "cannot vary edge.model"),
        (["--over", "decoding.repetition_penalty=1.1"], "cannot vary decoding.repetition_penalty"),
        (["--over", "link.jitter_ms=5"], "no value 'link.jitter_ms'"),
        (["--over", "speculative.gate=0.5"], "speculative.gate"),
        (["--over", "speculative.gate.threshold=0.5"], "measure"),
        (["--over", "speculative.gate.measure=entropy"], "threshold"),
        (
            ["--over", "speculative.gate.measure=entropy,margin", "--over", "speculative.gate.threshold=1"],
            "one gate",
        ),
        (["--method", "cloud"], "no method 'cloud'"),
        (["--method", "edge_baseline"], "a replay has no edge model"),
        (["--method", "prompt_lookup"], "there are none here"),
    ],
)
def test_a_wrong_condition_gets_one_clear_error(replayed, specbench, options, message):
    done = specbench("replay", *replayed, *options)
    assert done.code in (2, 3)
    assert message in done.err


def test_more_clients_on_one_target_make_each_of_them_slower():
    texts = [drawn(0.7, 60, seed) for seed in range(6)]
    rows = list(grid(texts, costs(target__speed=0.2), ["speculative"], [3], {"clients": [1, 4, 16]}))
    times = [row.ms_per_token for row in rows if row.method == "speculative"]
    assert times == sorted(times)
    assert times[0] == pytest.approx(
        next(iter(grid(texts, costs(target__speed=0.2), ["speculative"], [3], {}))).ms_per_token
        / rows[1].speedup,
        rel=0.1,
    )


def test_every_method_can_share_a_target(replayed, specbench):
    over = ("--over", "clients=1,8", "--over", "draft_length=2", "--over", "target.speed=0.2")
    done = specbench("replay", *replayed, *over, "--json")
    assert done.code == 0, done.err
    for method in (CONTROL, *SCHEDULES):
        few, many = [row["ms_per_token"] for row in done.json["rows"] if row["method"] == method]
        assert few < many


def test_the_command_replays_every_method_under_every_condition(replayed, specbench):
    done = specbench(
        "replay", *replayed, "--over", "speculative.draft_length=1..3", "--over", "link.rtt_ms=0,50", "--json"
    )
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert done.json["exact"] is True
    assert len(rows) == 2 * (1 + len(SCHEDULES) * 3)
    assert [row["speedup"] for row in rows if row["method"] == CONTROL] == [1, 1]
    assert {row["condition"]["link.rtt_ms"] for row in rows} == {0, 50}
    shown = specbench("replay", *replayed, "--over", "link.rtt_ms=0,50", "--method", "speculative").out
    assert "speculative" in shown
    assert "speculative_pipelined" not in shown


def test_the_rule_of_a_trace_leaves_out_the_methods_that_do_not_know_it(replayed, specbench):
    write_trace(replayed[0], replace(trace(), verification="rejection", exact=False))
    done = specbench("replay", *replayed, "--json")
    assert done.code == 0, done.err
    assert {row["method"] for row in done.json["rows"]} == {CONTROL, "speculative", "speculative_colocated"}
    refused = specbench("replay", *replayed, "--method", "speculative_pipelined")
    assert refused.code == 2
    assert "verification rejection is not supported by speculative_pipelined" in refused.err

    planned = specbench("plan", "--trace", *replayed, "--objective-ms", "40", "--json")
    assert planned.code == 0, planned.err
    assert planned.json["methods"].keys() == {"speculative", "speculative_colocated"}
    assert planned.json["exact"] is False
    assert not any("pipelined" in name for name in (*planned.json["verdicts"], *planned.json["clients"]))
    shown = specbench("plan", "--trace", *replayed).out
    assert "trace approximate: rejection changes the text" in " ".join(shown.split())
    mapped = specbench("plan", "--trace", *replayed, "--over", "link.rtt_ms=0,20").out
    assert "pipelined" not in shown + mapped
    assert "approximate: rejection changes the text" in " ".join(mapped.split())


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "--over", "agreement=0.5"),
        ("replay", "--over", "clients=2"),
        ("plan", "--trace"),
        ("plan", "--objective-ms", 50, "--trace"),
    ],
)
def test_a_trace_of_first_tokens_alone_gets_one_clear_error(replayed, specbench, words):
    write_trace(replayed[0], trace(tokens=1))
    done = specbench(*words, *replayed)
    assert done.code == 2
    assert "no text with two or more tokens" in done.err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "not a mapping"),
        ({"draft": {"step_ms": 1.0}}, "target"),
        ({**TABLE, "targets": 1}, "targets"),
        ({**TABLE, "target": {"verify_ms": {}}}, "at least one entry"),
        ({**TABLE, "target": {"verify_ms": {"one": 3.0}}}, "verify_ms"),
        ({**TABLE, "target": {"verify_ms": {1: -3.0}}}, "verify_ms"),
        ({**TABLE, "target": {"verify_ms": {1: 0.0}}}, "verify_ms"),
        ({**TABLE, "schema_version": 9}, "schema_version"),
    ],
)
def test_a_wrong_cost_table_gets_one_clear_error(replayed, specbench, tmp_path, table, message):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(table))
    done = specbench("replay", replayed[0], "--costs", tmp_path / "bad.yaml")
    assert done.code == 2
    assert message in done.err
    assert "bad.yaml" in done.err


def test_a_cost_table_is_read_back_as_it_was_written(replayed):
    assert read_costs(replayed[2]) == costs()


def test_json_serves_for_a_cost_table_too(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(TABLE))
    assert read_costs(tmp_path / "c.json") == costs()
