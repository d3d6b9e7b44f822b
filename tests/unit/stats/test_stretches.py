"""Figures by length of the prompt, and by position in the answer."""

from dataclasses import replace

import pytest
from builders import generation, manifest
from comparisons import CONTROL, request, run

from specbench.render.parts import part_cells
from specbench.render.report.charts import drawings
from specbench.render.report.sections import sections
from specbench.results.records import Round, Task
from specbench.stats.comparison import compare
from specbench.stats.report import report
from specbench.stats.stretches import by_category, by_context, by_position


def answered(name, prompt_tokens, step_ms, method="m"):
    return request(method, name, step_ms, prompt_tokens=prompt_tokens)


def test_prompts_of_doubling_length_are_a_stretch_each():
    ours = [
        answered("1", 200, 10.0),
        answered("2", 256, 12.0),
        answered("3", 257, 30.0),
        answered("4", 4096, 50.0),
    ]
    control = [answered(each.prompt_id, each.prompt_tokens, 60.0, CONTROL) for each in ours]
    found = list(by_context([("m", ours, control)]))
    assert [(each.first, each.last, each.answers) for each in found] == [
        (1, 256, 2), (257, 512, 1), (2049, 4096, 1)
    ]  # fmt: skip
    assert [each.tpot_ms for each in found] == [11.0, 30.0, 50.0]
    assert found[2].speedup == pytest.approx(60 / 50)
    assert list(by_context([("m", ours[:2], control[:2])])) == [], "one stretch says nothing"


def drafted(*rounds):
    """An answer whose rounds take 10 ms each: drafted, accepted, committed."""
    parts = [Round(tokens=(1,)), *(Round(tokens=(2,) * n, drafted=d, accepted=a) for d, a, n in rounds)]
    return generation(rounds=tuple(parts), arrival_ms=tuple(10.0 * at for at in range(len(parts))))


def test_a_round_counts_where_its_first_token_stands():
    record = drafted(*[(8, 7, 8)] * 8, *[(8, 1, 2)] * 3)  # 1 + 64 tokens, then 6
    first, second = by_position([("m", [record], ())])
    assert (first.first, first.last, second.first) == (1, 64, 65)
    assert (first.tpot_ms, second.tpot_ms) == (10 / 8, 10 / 2)
    assert (first.acceptance_rate, second.acceptance_rate) == (7 / 8, 1 / 8)
    assert (first.acceptance_length, second.acceptance_length) == (8, 2)
    assert (first.answers, second.answers) == (1, 1)


def test_answers_within_one_stretch_have_no_positions():
    assert list(by_position([("m", [drafted((4, 4, 5))], ())])) == []


def timed(name, prompt_tokens, draft_ms):
    """The prompt in 20 ms of the drafter, then three rounds of 10 ms for two tokens each."""
    first = Round(tokens=(1,), draft_ms=20.0)
    part = Round(
        tokens=(2, 3), drafted=2, accepted=1, draft_ms=draft_ms, verify_ms=5.0, uplink_ms=1.0, downlink_ms=1.0
    )
    return generation(
        name, rounds=(first, part, part, part), arrival_ms=(50.0, 60.0, 70.0, 80.0), prompt_tokens=prompt_tokens
    )


def test_the_parts_of_a_tokens_time_stand_beside_its_tpot():
    short, long = by_context([("m", [timed("1", 100, 2.0), timed("2", 1000, 3.0)], ())])
    assert (short.read_ms, short.draft_ms, short.link_ms, short.verify_ms, short.other_ms) == (
        20,
        1,
        1,
        2.5,
        0.5,
    )
    assert (long.draft_ms, long.parts_ms, long.tpot_ms, long.other_ms) == (1.5, 5, 5, 0)
    assert part_cells(short) == (
        "1 to 256",
        "1.000",
        "1.000",
        "2.500",
        "4.50",
        "5.00",
        "90.0%",
        "0.500",
        "20.0",
    )


def test_acceptance_has_an_interval_over_prompts():
    rounds = [(4, 4, 5), (4, 0, 1)]
    wide = [drafted(*[rounds[number % 2]] * 4) for number in range(6)]
    narrow = [drafted(*rounds * 2) for _ in range(6)]
    for records, is_narrow in ((wide, False), (narrow, True)):
        named = [replace(each, prompt_id=str(at), prompt_tokens=100) for at, each in enumerate(records)]
        (stretch, _) = by_context([("m", [*named, replace(named[0], prompt_tokens=900)], ())])
        low, high = stretch.length_interval
        assert stretch.acceptance_length == stretch.first_accepted * 4 + 1 == 3
        assert (high - low < 1e-9) == is_narrow
        assert low <= 3 <= high
    (few, _) = by_context([("m", [named[0], replace(named[1], prompt_tokens=900)], ())])
    assert few.length_interval is None


def test_categories_have_acceptance_and_scores_of_their_own():
    records = [
        replace(drafted((4, 4, 5)), prompt_id="1", category="math", text="4"),
        replace(drafted((4, 4, 5)), prompt_id="2", category="math", text="5"),
        replace(drafted((4, 1, 2)), prompt_id="3", category="qa"),
    ]
    math, qa = by_category([("m", records, manifest(tasks={name: Task("number", ("4",)) for name in "12"}))])
    assert (math.category, math.prompts, math.acceptance_length, math.score) == ("math", 2, 5, 0.5)
    assert (qa.acceptance_rate, qa.first_accepted, qa.score) == (0.25, 1, None)
    assert list(by_category([("m", records[:2], manifest())])) == [], "one category says nothing"


def test_a_report_shows_them_as_tables_and_charts():
    records = [
        answered(str(number), 100 * number**2, 10.0 * number, method)
        for method in (CONTROL, "m")
        for number in range(1, 5)
    ]
    made = report([run(records)])
    assert {each.of for each in compare([run(records)]).stretches} == {"context"}
    (section,) = [each for each in sections(made) if each.name == "lengths"]
    assert [table.caption for table in section.folded] == ["By tokens of the prompt"]
    (chart,) = [each for each in drawings(made) if each.name == "context-tpot"]
    assert {point["tokens"] for point in chart.figures} == {256, 512, 1024, 2048}
