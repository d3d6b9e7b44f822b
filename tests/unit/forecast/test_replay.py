"""Replayed schedules: what each part costs, when, and what is refused."""

import io
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from specbench.analysis.clock import Prices, at
from specbench.analysis.grid import Row, best, grid, lengths_of, parse_over
from specbench.analysis.replay import CONTROL, SCHEDULES, replay, rounds
from specbench.analysis.schedule import Text
from specbench.analysis.variants import variants, with_agreement
from specbench.analysis.varied import replayed_over
from specbench.bench.traces import Trace, TracedText, write_trace
from specbench.config.costs import Costs, read_costs, write_costs
from specbench.render.report.maps import map_page
from specbench.render.schedules import map_table

TABLE = {
    "draft": {"step_ms": 2.0, "read_ms": 0.5, "prefill_ms": {10: 5.0}},
    "target": {"verify_ms": {1: 20.0, 5: 24.0}, "prefill_ms": {10: 50.0, 110: 150.0}},
    "link": {"rtt_ms": 10.0},
    "bytes": {"per_message": 40, "up_per_token": 3.0, "down_per_token": 3.0},
}


def costs(**values):
    return Costs.model_validate(TABLE).with_values({key.replace("__", "."): values[key] for key in values})


def prices(**values):
    return Prices(costs(**values))


def drawn(alpha, tokens, seed=0):
    coin = random.Random(seed)
    return Text.of("".join("01"[coin.random() < alpha] for _ in range(tokens)), tokens, 10)


def autoregressive(text, table):
    return replay([text], table, CONTROL, 1)[0]


def synchronous(text, table, length):
    return replay([text], table, "speculative", length)[0]


def pipelined(text, table, length):
    return replay([text], table, "speculative_pipelined", length)[0]


def colocated(text, table, length):
    return replay([text], table, "speculative_colocated", length)[0]


def test_times_between_two_counts_lie_on_a_line_and_beyond_them_its_slope_goes_on():
    assert [at({1: 20.0, 5: 24.0}, width) for width in (1, 3, 5, 9)] == [20, 22, 24, 28]
    assert [at({4: 7.0}, width) for width in (1, 4, 60)] == [7, 7, 7]
    assert at({1: 5.0, 2: 4.0}, 9) == 4.0


def test_a_synchronous_round_takes_the_sum_of_its_parts():
    text = Text.of("01100", budget=5, prompt_tokens=10)
    first, last = 2 * 2.0 + 22.0 + 10.0, 0.5 + 0.0
    found = synchronous(text, prices(), 2)
    del last
    # Two tokens stand and the bonus token ends behind them; one is left, which nothing can be drafted for.
    assert found.decode_ms == pytest.approx(first + 20.0 + 10.0)
    assert (found.tokens, found.rounds, found.drafted, found.accepted) == (5, 2, 2, 2)
    assert found.ttft_ms == pytest.approx(5.0 + 50.0 + 10.0)


def test_a_draft_behind_one_that_stood_whole_reads_one_token_more():
    text = Text.of("011111111", budget=20, prompt_tokens=10)
    steps = rounds(text, 2)
    assert [step.unread for step in steps] == [1, 2, 2]
    apart = prices(draft__read_ms=0.0), prices(draft__read_ms=0.5)
    cheap, dear = (synchronous(text, each, 2).decode_ms for each in apart)
    assert dear - cheap == pytest.approx(2 * 0.5)


def test_the_cloud_alone_pays_the_round_trip_once():
    text = drawn(0.5, 41)
    near, far = (autoregressive(text, prices(link__rtt_ms=rtt)) for rtt in (0.0, 300.0))
    assert near.decode_ms == far.decode_ms == 40 * 20.0
    assert far.ttft_ms - near.ttft_ms == 300.0


def test_a_narrow_downlink_bounds_what_is_streamed():
    table = prices(link__downlink_mbps=0.001)
    assert autoregressive(drawn(0.5, 3), table).decode_ms == pytest.approx(2 * (40 + 3) * 8)
    assert colocated(drawn(0.0, 3), table, 1).decode_ms == pytest.approx(2 * (40 + 3) * 8)


def test_a_draft_pays_for_its_bytes_on_the_uplink():
    text = Text.of("0000", budget=90, prompt_tokens=10)
    free, dear = (synchronous(text, each, 4).decode_ms for each in (prices(), prices(link__uplink_mbps=0.1)))
    assert dear - free == pytest.approx(3 * (40 + 4 * 3) * 8 / 100)


def piped(agrees, step_ms, draft_length=2):
    """A pipelined text whose every answer takes 30 ms: 20 of the target and 10 of the link."""
    table = {**TABLE, "draft": {"step_ms": step_ms, "read_ms": 0.5}, "target": {"verify_ms": {1: 20.0}}}
    return pipelined(Text.of(agrees, len(agrees), 10), Prices(Costs.model_validate(table)), draft_length)


def test_a_pipelined_draft_that_is_right_is_never_waited_for_again():
    found = piped("0111111111", step_ms=2.0)
    assert found.decode_ms == pytest.approx(2 * 2.0 + 3 * 30.0)
    assert (found.rounds, found.drafted, found.accepted, found.wasted) == (3, 6, 6, 0)


def test_a_slow_draft_carries_over_what_it_had_time_for_and_finishes_the_step_that_it_began():
    # Two steps are begun within the 30 ms: the guess, and the first token of the next proposal.
    found = piped("0111111", step_ms=20.0)
    assert found.decode_ms == pytest.approx(2 * 20.0 + 2 * 20.0 + 1 * 20.0 + 30.0)
    assert (found.rounds, found.wasted) == (2, 0)


def test_what_was_drafted_behind_a_wrong_guess_is_wasted_and_drafted_again():
    # Both rounds stand whole, and the token that the target adds is not the one that was guessed.
    found = piped("0110110", step_ms=2.0)
    assert found.wasted == 3
    assert found.decode_ms == pytest.approx(2 * (2 * 2.0 + 30.0))


def test_what_was_drafted_behind_a_refused_token_is_wasted():
    found = piped("0100000", step_ms=2.0)
    assert (found.rounds, found.accepted) == (5, 1)
    assert found.wasted == 3


def test_nothing_is_drafted_behind_a_proposal_that_ends_the_text():
    text = Text.of("0110111", 50, 10)  # the seventh token is the stop token
    found = pipelined(text, prices(draft__step_ms=2.0), 4)
    assert found.accepted == 5
    assert (
        found.wasted == 4 + 1
    )  # the whole next proposal behind the first round's guess, and none behind the last


def test_in_the_cloud_the_draft_takes_the_clouds_time_and_no_round_trip():
    text = drawn(0.7, 60)
    here = synchronous(text, prices(link__rtt_ms=0.0), 3)
    assert colocated(text, prices(link__rtt_ms=80.0), 3).decode_ms == pytest.approx(here.decode_ms)
    fast = colocated(text, prices(colocated_step_ms=0.2), 3)
    saved = here.drafted * 1.8 + sum(0.45 for step in rounds(text, 3) if step.unread == 2 and step.drafted)
    assert here.decode_ms - fast.decode_ms == pytest.approx(saved)


def test_a_faster_target_divides_its_times_alone():
    text = drawn(0.7, 60)
    table = prices(link__rtt_ms=0.0, target__speed=4.0)
    assert autoregressive(text, table).decode_ms == pytest.approx(59 * 5.0)
    assert table.step_ms == 2.0


def test_fixed_and_adaptive_lengths_end_every_text():
    for seed in range(20):
        text = drawn(0.8, 50, seed)
        for name in SCHEDULES:
            for length in (1, 4, 64, "auto"):
                found = replay([text], prices(), name, length)[0]
                assert found.tokens == 50
                assert found.accepted + found.rounds in (49, 50)


def test_adaptive_lengths_come_near_the_best_fixed_one():
    texts = [drawn(0.85, 300, seed) for seed in range(8)]
    for rtt in (0.0, 20.0, 100.0):
        table = prices(link__rtt_ms=rtt)
        fixed = [sum(one.decode_ms for one in replay(texts, table, "speculative", n)) for n in range(1, 33)]
        auto = sum(one.decode_ms for one in replay(texts, table, "speculative", "auto"))
        assert auto < 1.1 * min(fixed)


def trace(count=3, tokens=40):
    coin = random.Random(1)
    zeros = (0.0,) * tokens
    rows = []
    for index in range(count):
        bits = "".join("01"[coin.random() < 0.75] for _ in range(tokens))
        rows.append(
            TracedText(str(index), "c", 0, 0, 10, "x", tokens, tuple(range(tokens)), bits, zeros, zeros, zeros)
        )
    return Trace(True, "greedy", "", "", "", {}, {}, {}, {}, tuple(rows))


@pytest.fixture
def files(tmp_path):
    write_trace(tmp_path / "t.json", trace())
    write_costs(tmp_path / "c.yaml", costs())
    return tmp_path / "t.json", "--costs", tmp_path / "c.yaml"


def test_a_cost_table_is_read_back_as_it_was_written(files):
    assert read_costs(files[2]) == costs()


def test_json_serves_for_a_cost_table_too(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(TABLE))
    assert read_costs(tmp_path / "c.json") == costs()


def test_the_command_replays_every_method_under_every_condition(files, specbench):
    done = specbench(
        "replay", *files, "--over", "speculative.draft_length=1..3", "--over", "link.rtt_ms=0,50", "--json"
    )
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert done.json["exact"] is True
    assert len(rows) == 2 * (1 + len(SCHEDULES) * 3)
    assert [row["speedup"] for row in rows if row["method"] == CONTROL] == [1, 1]
    assert {row["condition"]["link.rtt_ms"] for row in rows} == {0, 50}
    shown = specbench("replay", *files, "--over", "link.rtt_ms=0,50", "--method", "speculative").out
    assert "speculative" in shown
    assert "speculative_pipelined" not in shown


def test_the_rule_of_a_trace_leaves_out_the_methods_that_do_not_know_it(files, specbench):
    write_trace(files[0], replace(trace(), verification="rejection", exact=False))
    done = specbench("replay", *files, "--json")
    assert done.code == 0, done.err
    assert {row["method"] for row in done.json["rows"]} == {CONTROL, "speculative", "speculative_colocated"}
    refused = specbench("replay", *files, "--method", "speculative_pipelined")
    assert refused.code == 2
    assert "verification rejection is not known to speculative_pipelined" in refused.err

    planned = specbench("plan", "--trace", *files, "--objective-ms", "40", "--json")
    assert planned.code == 0, planned.err
    assert planned.json["methods"].keys() == {"speculative", "speculative_colocated"}
    assert planned.json["exact"] is False
    assert not any("pipelined" in name for name in (*planned.json["verdicts"], *planned.json["clients"]))
    shown = specbench("plan", "--trace", *files).out
    assert "trace approximate: rejection changes the text" in " ".join(shown.split())
    mapped = specbench("plan", "--trace", *files, "--over", "link.rtt_ms=0,20").out
    assert "pipelined" not in shown + mapped
    assert "approximate: rejection changes the text" in " ".join(mapped.split())


def test_the_table_says_so_when_nothing_beats_the_cloud_alone(files, specbench):
    done = specbench("replay", *files, "--over", "draft.step_ms=500,900", "--over", "draft_length=4")
    assert done.out.count("under none of 2 conditions") == len(SCHEDULES)
    assert sum(line.rstrip().endswith("  the cloud alone") for line in done.out.splitlines()) == 2


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
        (["--over", "gate.entropy=[0.5]"], "is no number"),
        (["--over", "clients=0"], "clients"),
        (["--over", "clients=2", "--over", "draft_length=auto"], "several clients"),
        (["--over", "gate.entropy=x"], "is no number"),
        (["--over", "gate.entropy=1", "--over", "gate.margin=0.5"], "one gate"),
        (
            ["--over", "gate.entropy=1", "--method", "speculative_pipelined"],
            "not known to speculative_pipelined",
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
        (["--method", "prompt_lookup"], "this trace holds no prompts"),
    ],
)
def test_a_wrong_condition_gets_one_clear_error(files, specbench, options, message):
    done = specbench("replay", *files, *options)
    assert done.code in (2, 3)
    assert message in done.err


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
def test_a_wrong_cost_table_gets_one_clear_error(files, specbench, tmp_path, table, message):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(table))
    done = specbench("replay", files[0], "--costs", tmp_path / "bad.yaml")
    assert done.code == 2
    assert message in done.err
    assert "bad.yaml" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "--over", "agreement=0.5"),
        ("replay", "--over", "clients=2"),
        ("plan", "--trace"),
        ("plan", "--objective-ms", 50, "--trace"),
    ],
)
def test_a_trace_of_first_tokens_alone_gets_one_clear_error(files, specbench, words):
    write_trace(files[0], trace(tokens=1))
    done = specbench(*words, *files)
    assert done.code == 2
    assert "no text of two tokens" in done.err


def test_thousands_of_conditions_cost_no_more_rounds_than_one(monkeypatch):
    texts, counted = [drawn(0.7, 60)], []
    from specbench.analysis import replay as module

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


def test_agreement_can_be_imposed_and_a_better_draft_is_never_slower():
    texts = [drawn(0.6, 400, seed) for seed in range(10)]
    over = {"agreement": [0.0, 0.3, 0.6, 0.9, 1.0]}
    rows = list(grid(variants(texts, (), over), costs(), ["speculative"], [4], over))
    rates = [row.acceptance_rate for row in rows if row.method == "speculative"]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (0, 1)
    assert len([run for text in with_agreement(texts, 0.3) for run in text.runs[1:] if run]) == pytest.approx(
        0.3 * 399 * 10, rel=0.1
    )


def test_the_agreement_that_a_trace_has_can_be_imposed_without_a_change():
    texts = [drawn(0.6, 400, seed) for seed in range(3)]
    bits = [run > 0 for text in texts for run in text.runs[1:]]
    same = with_agreement(texts, sum(bits) / len(bits))
    assert [text.runs[1:] for text in same] == [text.runs[1:] for text in texts]


def test_an_imposed_agreement_is_called_approximate(files, specbench):
    done = specbench("replay", *files, "--over", "agreement=0.5,0.9", "--over", "draft_length=2", "--json")
    assert done.json["exact"] is False


def test_the_page_of_a_grid_is_a_map_without_scripts_that_keeps_markup_as_text(files, specbench, tmp_path):
    table = costs().model_copy(update={"description": "<script>alert(1)</script>"})
    write_costs(tmp_path / "c.yaml", table)
    page = tmp_path / "map.html"
    over = ("--over", "link.rtt_ms=0,20,100", "--over", "target.speed=1,4", "--over", "draft.speed=1,8")
    done = specbench("replay", *files, *over, "--html", page)
    assert done.code == 0, done.err
    text = page.read_text()
    assert text.count("<table>") == 1 + 2 * (1 + len(SCHEDULES)) + 4 * len(SCHEDULES)
    assert text.count('class="heat"') == 12 * (1 + len(SCHEDULES))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/", "")
    assert "draft.speed = 8" in text
    assert ">speculative_colocated 2" in text


def test_a_page_of_one_condition_or_of_one_key_can_be_written_too(files, specbench, tmp_path):
    for over in ((), ("--over", "link.rtt_ms=0,20")):
        done = specbench("replay", *files, *over, "--html", tmp_path / "map.html")
        assert done.code == 0, done.err
        assert f"{2 if over else 1} conditions" in (tmp_path / "map.html").read_text() or not over
    assert specbench("replay", *files, "--html", tmp_path / "no" / "map.html").code == 5


def sure(agrees, bits, budget=None):
    text = Text.of(agrees, budget or len(agrees), sure=bits)
    return text, rounds(text, 2)


def test_what_a_gate_lets_pass_costs_its_draft_alone_and_the_next_pass_reads_it():
    text, steps = sure("010110111", "011100000", 20)
    # Two sure tokens pass, the wrong one too; then the draft is unsure, and what it says is verified.
    assert [(step.drafted, step.committed, step.verified, step.trusted) for step in steps[:2]] == [
        (2, 2, False, 0),
        (2, 3, True, 2),
    ]
    assert steps[1].width == 5
    found = synchronous(text, prices(draft__read_ms=0.0), 2)
    assert found.rounds == sum(step.verified for step in steps)
    assert found.drafted == sum(step.drafted for step in steps if step.verified)
    ungated = synchronous(Text.of("010110111", 20), prices(draft__read_ms=0.0), 2)
    assert found.decode_ms < ungated.decode_ms


def test_a_stop_token_is_never_let_pass_and_a_gate_that_is_never_sure_changes_nothing():
    assert all(step.verified for step in sure("0111", "0111", 20)[1][1:])
    assert sure("0110101", "0000000")[1] == rounds(Text.of("0110101", 7), 2)


WHOLE_GATES = "{measure: margin, threshold: 0.0}, {measure: margin, threshold: 2.0}"


@pytest.mark.parametrize("gates", ["gate.margin=null,0.0,2.0", f"speculative.gate=null,{WHOLE_GATES}"])
def test_gates_are_varied_as_a_profile_has_them_and_called_approximate(files, specbench, gates):
    over = ("--over", gates, "--over", "draft_length=2")
    done = specbench("replay", *files, *over, "--json")
    assert done.code == 0, done.err
    assert done.json["exact"] is False
    none, always, never = [row for row in done.json["rows"] if row["method"] == "speculative"]
    assert never["tpot_ms"] == none["tpot_ms"] > always["tpot_ms"]
    assert "gate.margin would change the text" in " ".join(specbench("replay", *files, *over).out.split())


def test_every_field_of_a_profile_that_a_replay_knows_has_both_names():
    over = {
        "speculative.draft_length": [2],
        "speculative.verification": ["rank"],
        "speculative.rank": [1, 20],
        "decoding.temperature": [0.5],
        "decoding.top_p": [0.9],
        "speculative.gate.measure": ["entropy"],
        "speculative.gate.threshold": [0.1, 0.5],
        "link.rtt_ms": [0, 5],
        "target.speed": [4],
    }
    assert replayed_over(over) == {
        "draft_length": [2],
        "verification": ["rank"],
        "rank": [1, 20],
        "temperature": [0.5],
        "top_p": [0.9],
        "gate.entropy": [0.1, 0.5],
        "link.rtt_ms": [0, 5],
        "target.speed": [4],
    }
    assert replayed_over({"speculative.gate": [None]}) == {"gate.entropy": [None]}


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


def test_every_method_can_share_a_target(files, specbench):
    over = ("--over", "clients=1,8", "--over", "draft_length=2", "--over", "target.speed=0.2")
    done = specbench("replay", *files, *over, "--json")
    assert done.code == 0, done.err
    for method in (CONTROL, *SCHEDULES):
        few, many = [row["ms_per_token"] for row in done.json["rows"] if row["method"] == method]
        assert few < many


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
    assert shown.count(f" {wins} ") >= 2
    assert f"under {2 if wins == 'speculative' else 'none'} of 2" in shown
    assert ("cannot be told" in shown) == (wins == "undecided" and interval is not None)
    assert ("too few prompts to tell" in shown) == (interval is None)
    assert ("is shown to be faster" in shown) == (wins == "undecided")
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


def test_replays_and_plans_need_no_torch(files):
    program = (
        "import sys; from specbench.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    for arguments in (["replay", *files], ["plan", "--acceptance", "0.8", "--objective-ms", "60"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_a_method_of_ones_own_is_replayed_without_a_line_about_replay(files, specbench, tmp_path):
    """The one from docs/writing-a-method.md; the traced prompts hold the texts, so it is always right."""
    page = (Path(__file__).parents[2] / "docs" / "writing-a-method.md").read_text()
    (tmp_path / "from_the_prompt.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    known = trace()
    texts = [replace(text, prompt_ids=(50, *text.tokens)) for text in known.texts]
    write_trace(files[0], replace(known, texts=tuple(texts)))
    own = ("--plugin", tmp_path / "from_the_prompt.py", "--method", "from_the_prompt")
    done = specbench("replay", *files, *own, "--over", "draft_length=4", "--over", "link.rtt_ms=0,20", "--json")
    assert done.code == 0, done.err
    rows = [row for row in done.json["rows"] if row["method"] == "from_the_prompt"]
    assert [row["acceptance_rate"] for row in rows] == [1, 1]
    # Eight rounds for 39 tokens, seven of which draft four; a draft by lookup takes no time of the cost table.
    assert [row["ms_per_token"] for row in rows] == [
        pytest.approx((7 * 24 + 23 + 8 * rtt_ms) / 39) for rtt_ms in (0, 20)
    ]
