"""Texts that repeat one token or one short phrase are named before any speed."""

import json

import pytest
from builders import generation
from comparisons import CONTROL, run

from specbench.render.report import documents
from specbench.render.report.page import page
from specbench.render.showing import show_runs
from specbench.stats.comparison import compare
from specbench.stats.repetition import is_loop
from specbench.stats.report import report


@pytest.mark.parametrize(
    "tokens",
    [(0,) * 48, (5, 6) * 12, (9, 8, 7, 6, *(0,) * 20), (1, 2, 3, 4, 5, 6, 7, 8) * 4, (3, *(1, 2, 3) * 8, 1)],
)
def test_a_text_of_one_short_phrase_over_and_over_is_a_loop(tokens):
    assert is_loop(tokens)


@pytest.mark.parametrize(
    "tokens",
    [
        (0,) * 15,
        tuple(range(40)),
        (*range(30), *(7,) * 30),
        (*(1, 2, 3) * 9, 99),
        tuple(range(9)) * 5,
        (1, 2) * 3,
    ],
)
def test_a_short_text_or_one_that_says_something_else_is_none(tokens):
    assert not is_loop(tokens)


def looped(method, prompt_id, step_ms, tokens):
    arrivals = tuple(100 + step_ms * index for index in range(len(tokens)))
    return generation(prompt_id, tokens, method=method, arrival_ms=arrivals)


@pytest.fixture
def fast_loops():
    """A method that is twice as fast, on texts of one token."""
    records = []
    for question in range(12):
        text = (0,) * 24 if question else tuple(range(24))
        records += [looped(CONTROL, str(question), 40.0, text), looped("m", str(question), 20.0, text)]
    return [run(records)]


def test_a_comparison_warns_of_them_by_row(fast_loops):
    first, second = compare(fast_loops).warnings
    assert first.startswith(f"11 of 12 texts of {CONTROL} repeat themselves (one token, over and over)")
    assert second.startswith("11 of 12 texts of m repeat themselves")
    assert compare([run([looped("m", "1", 20.0, tuple(range(24)))])]).warnings == ()


def test_the_stop_token_behind_a_loop_does_not_hide_it():
    text = (*(0,) * 24, 1)
    (warning,) = compare(
        [run([generation("1", text, finish_reason="stop", arrival_ms=tuple(range(25)))])]
    ).warnings
    assert warning.startswith("1 of 1 texts of m")


def test_every_form_of_output_says_so_before_any_speed(fast_loops, capsys):
    show_runs(fast_loops)
    table = " ".join(capsys.readouterr().out.split())
    assert table.index("warning: 11 of 12 texts") < table.index("faster")
    show_runs(fast_loops, as_json=True)
    assert json.loads(capsys.readouterr().out)["warnings"][0].startswith("11 of 12 texts")
    made = report(fast_loops)
    text = documents.as_markdown(made)
    assert text.index("11 of 12 texts") < text.index("faster")
    shown = page(made)
    assert shown.index("11 of 12 texts") < shown.index('<h1 class="">')
    assert "But most texts repeat themselves." in shown
