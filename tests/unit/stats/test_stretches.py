"""Figures by length of the prompt, and by position in the answer."""

import pytest
from builders import generation
from comparisons import CONTROL, request, run

from specbench.render.report.charts import drawings
from specbench.render.report.sections import sections
from specbench.results.records import Round
from specbench.stats.comparison import compare
from specbench.stats.report import report
from specbench.stats.stretches import by_context, by_position


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
