"""What a report is made of, and its formats without a browser."""

import re
from dataclasses import replace

import pytest
from builders import generation, manifest
from comparisons import CONTROL, PROFILE, pair, run
from pages import EVIL, Tags, evil_run

from specbench.render.report import charts, pictures
from specbench.render.report.page import page
from specbench.results.records import Divergence, Round, Run
from specbench.stats.fairness import EQUAL, NOT_EQUAL, ON_PURPOSE, fairness
from specbench.stats.groups import groups_of
from specbench.stats.headline import headline
from specbench.stats.report import report
from specbench.stats.texts import text_pairs
from specbench.stats.timings import memory_points, round_time


@pytest.fixture(scope="module")
def evil_page():
    return page(report([evil_run()]))


def test_markup_in_any_value_stays_text(evil_page):
    tags = Tags(evil_page)
    assert {"script", "img", "iframe", "object"} & {tag for tag, _ in tags.found} == set()
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    for word in (f"m{EVIL}", f"hub/{EVIL}", f"c{EVIL}", f"what is {EVIL}?", f"Xeon{EVIL}", f"profile{EVIL}"):
        assert word in tags.text


def test_the_page_names_no_other_host_and_forbids_asking_one(evil_page):
    links = [value for _, attributes in Tags(evil_page).found for name, value in attributes.items()
             if name in ("src", "href", "xlink:href", "action")]  # fmt: skip
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in evil_page
    assert "@import" not in evil_page
    assert "default-src 'none'" in evil_page


def test_a_character_that_no_page_can_hold_is_replaced(evil_page):
    assert "\x00" not in evil_page
    assert evil_page.encode("utf-8")
    assert pictures.printable("a\x00b\ud800c\tÄ𝄞") == "a\ufffdb\ufffdc\tÄ𝄞"


def test_every_chart_has_a_description_and_every_table_a_caption_and_headings(evil_page):
    tags = Tags(evil_page).found
    charts_shown = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(charts_shown) == 2 * len(charts.drawings(report([evil_run()])))
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in charts_shown)
    names = [tag for tag, _ in tags]
    assert names.count("caption") == names.count("table") == names.count("thead")
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")
    assert names.count("h1") == 1


def test_the_answer_comes_first_with_its_interval_and_then_what_was_held_equal():
    made = report([run(pair(24, 1.3, 0.05))])
    text = Tags(page(made)).text.replace("\u00a0", " ")
    sentence = headline(made.comparison)
    assert "m is faster than the cloud alone: 1.3" in sentence
    statement = made.comparison.methods[-1].statement
    order = (
        sentence,
        "Time per output token",
        "Held equal for all methods:",
        statement,
        "Machine and versions",
    )
    at = [text.index(words) for words in order]
    assert at == sorted(at)
    assert "Not equal:" not in text[: at[3]]


def test_a_page_with_a_proven_bug_gives_no_verdict_and_says_so_first():
    bugs = [Divergence("m", str(question), 0, 0, 3, (1, 2), verdict="bug") for question in range(2)]
    made = report([run(pair(24, 1.3, 0.05), divergences=tuple(bugs))])
    (row,) = [row for row in made.comparison.methods if row.method == "m"]
    assert (row.bugs, row.verdict, row.label) == (2, None, "2 texts wrong")
    assert made.comparison.categories == ()
    text = page(made)
    assert '<h1 class="">No verdict: m produced wrong text.</h1>' in text
    assert '<h1 class="good">' in page(report([run(pair(24, 1.3, 0.05))]))
    assert "no verdict on m: 2 texts of it differed from the control" in text
    assert made.comparison.notes[0] == (
        "2 texts of m in run r1 differed from the control's, and no tie explains it"
    )


def test_the_sections_come_in_their_order(evil_page):
    shown = re.findall(r'<section id="(\w+)"', evil_page)
    parts = ["speed", "latency", "acceptance", "time", "memory", "ceiling"]
    assert shown == [*parts, "written", "texts", "fairness", "environment", "reproduce"]


def test_the_command_that_reproduces_a_run_is_shown_as_one_types_it():
    made = run(pair(12, 1.3), command=("run", "m", "--set", "link.rtt_ms=0 # not"))
    assert "specbench run m --set 'link.rtt_ms=0 # not'" in Tags(page(report([made]))).text


def test_a_run_with_too_few_prompts_and_without_a_control_is_still_a_page():
    few = Tags(page(report([run(pair(3, 1.3))]))).text
    assert "no verdict on m" in few
    alone = Tags(page(report([run([generation(str(i)) for i in range(3)])]))).text
    assert "the control was not measured" in alone


def test_unfair_runs_are_labelled_and_the_differing_field_is_not_equal():
    left = run(pair(12, 1.3), "r1")
    right = run(
        pair(12, 1.3), "r2", profile={**PROFILE, "workload": {**PROFILE["workload"], "max_new_tokens": 9}}
    )
    made = report([left, right], allow_unfair=True)
    row = next(row for row in made.held if row.subject == "budget")
    assert row.held == NOT_EQUAL
    assert "workload.max_new_tokens is 8 in run r1 and 9 in run r2" in row.value
    assert "No verdict: the runs are not comparable." in page(made)


def test_fairness_says_what_was_held_and_what_differs_on_purpose():
    left, right = (
        run(pair(12, 1.3), "r1"),
        run(
            pair(12, 1.3),
            "r2",
            profile={**PROFILE, "speculative": {"draft_length": 8, "verification": "greedy"}},
        ),
    )
    rows = {row.subject: row for row in fairness([left, right], [])}
    assert rows["sampling"].held == EQUAL
    assert rows["speculative.draft_length"].held == ON_PURPOSE
    assert rows["order"].held == NOT_EQUAL
    assert fairness([left], [])[0].subject == "cloud model"


def test_the_time_of_a_round_is_split_into_what_was_recorded_and_the_rest():
    rounds = (
        Round(tokens=(1,), draft_ms=100.0),  # prefill is left out
        Round(tokens=(2, 3), draft_ms=2.0, uplink_ms=1.0, downlink_ms=2.0, verify_ms=4.0),
        Round(tokens=(4,), draft_ms=4.0, uplink_ms=1.0, downlink_ms=2.0, verify_ms=4.0),
    )
    found = round_time("m", [generation(rounds=rounds, arrival_ms=(50.0, 60.0, 72.0))])
    assert (found.total_ms, found.tokens, found.rounds) == (11.0, 1.5, 2)
    assert (found.draft_ms, found.link_ms, found.verify_ms, found.other_ms) == (3.0, 3.0, 4.0, 1.0)


def test_what_no_round_recorded_is_unknown_and_parts_that_overlap_leave_no_rest():
    plain = round_time("m", [generation()])
    assert (plain.draft_ms, plain.link_ms, plain.verify_ms, plain.other_ms) == (None,) * 4
    rounds = (Round(tokens=(1,)), Round(tokens=(2,), draft_ms=8.0, verify_ms=8.0))
    assert round_time("m", [generation(rounds=rounds, arrival_ms=(1.0, 11.0))]).other_ms is None
    assert round_time("m", [generation(tokens=(1,))]) is None


def test_no_link_is_waited_for_between_the_parts_of_a_stream():
    streamed = Round(
        tokens=(2,), draft_ms=2.0, verify_ms=4.0, uplink_ms=0.0, downlink_ms=90.0, bytes_up=0, streamed=True
    )
    found = round_time("m", [generation(rounds=(Round(tokens=(1,)), streamed), arrival_ms=(1.0, 11.0))])
    assert (found.link_ms, found.other_ms) == (None, 4.0)
    asked = replace(streamed, bytes_up=9, streamed=False)
    assert round_time("m", [generation(rounds=(streamed, asked), arrival_ms=(1.0, 111.0))]).link_ms == 90.0


def test_a_method_of_which_every_answer_was_interrupted_has_no_row_and_the_rest_is_a_page():
    records = [replace(each, peak_rss_bytes=10**9) for each in pair(12, 1.3)]
    records = [replace(each, interrupted=each.method == "m") for each in records]
    made = report([run(records)])
    assert [row.method for row in made.comparison.methods] == [CONTROL]
    assert [point.method for point in made.memory["r1"]] == [CONTROL] * 12
    assert "interrupted by a lost cloud" in Tags(page(made)).text


def test_memory_is_in_the_order_in_which_answers_were_given():
    records = [replace(generation(str(i)), peak_rss_bytes=i * 10**9) for i in (3, 1, 2)]
    points = memory_points(Run(manifest(), tuple(records)), {"m": "name"})
    assert [(point.busy_s, point.rss_bytes) for point in points] == [(0.03, 3e9), (0.06, 1e9), (0.09, 2e9)]
    assert memory_points(Run(manifest(), (generation(),)), {"m": "m"}) == []


def test_texts_that_differ_stand_side_by_side_from_where_they_part():
    control = generation("1", (5, 6, 7), method=CONTROL, text="the cat sat")
    ours = generation("1", (5, 9), method="m", text="the cow")
    again = [replace(record, repeat=1) for record in (control, ours)]
    proof = Divergence("m", "1", 0, 0, 1, (6, 9), verdict="bug")
    made = run([control, ours, *again], divergences=(proof, replace(proof, repeat=1)), turns={"1": ("who?",)})
    (found,) = text_pairs(groups_of([made]))
    assert (found.shared, found.control, found.other) == ("the c", "at sat", "ow")
    assert (found.verdict, found.repeats, found.question) == ("bug", 2, "who?")
    assert not text_pairs(groups_of([run([control, replace(ours, rounds=control.rounds)])]))


def test_where_texts_part_even_line_ends_are_seen():
    control = generation("1", (5, 6), method=CONTROL, text="a<b>")
    shown = page(
        report([run([control, generation("1", (5, 7), text="a\n")], lossless={CONTROL: True, "m": False})])
    )
    assert "a<mark>⏎\n</mark>" in shown
    assert "a<mark>&lt;b&gt;</mark>" in shown


def test_a_lossy_text_that_differs_is_said_to_be_allowed_to():
    control = generation("1", (5, 6), method=CONTROL, text="ab")
    made = run([control, generation("1", (5, 7), text="ac")], lossless={CONTROL: True, "m": False})
    (found,) = text_pairs(groups_of([made]))
    assert found.verdict == "need not be the control's"
    assert not found.must_agree


def test_an_old_run_whose_manifest_lacks_what_came_later_is_rendered():
    old = run(pair(12, 1.3), turns={}, ceilings={}, references={}, engines={})
    shown = re.findall(r'<section id="(\w+)"', page(report([old])))
    assert shown == ["speed", "latency", "time", "texts", "fairness", "environment", "reproduce"]
