"""The page's view of who wrote each token."""

import re
from dataclasses import replace

import pytest
from builders import generation
from comparisons import CONTROL, PROFILE, run
from pages import EVIL, Tags

from specbench.render.report import written
from specbench.render.report.page import page
from specbench.results.records import Round, Task
from specbench.stats.report import report

WORDS = {1: "Why", 2: " is", 3: " the", 4: " sky", 5: f" {EVIL}", 6: " \x00red"}
ROUNDS = (
    Round((1,)),
    Round((2, 4), drafted=2, accepted=1, refused=(6,)),
    Round((3, 5), drafted=1, accepted=1),
    Round((4,), drafted=3, accepted=0),
    Round((2,)),
)


@pytest.fixture(autouse=True)
def words(monkeypatch):
    """A tokenizer of few words, in place of a model's."""
    decode = lambda ids: "".join(WORDS[token] for token in ids)  # noqa: E731
    monkeypatch.setattr("specbench.benchmark.stored_answers._decoder", lambda run: decode)


def answered(prompts=2, **fields):
    """A control and a method that drafts, on so many prompts."""
    arrivals = tuple(10.0 * at for at, _ in enumerate(ROUNDS))
    return run(
        [
            replace(generation(str(number), rounds=ROUNDS, arrival_ms=arrivals), method=method)
            if method == "m"
            else generation(str(number), method=method)
            for number in range(prompts)
            for method in (CONTROL, "m")
        ],
        turns={str(number): (f"question {number} {EVIL}",) for number in range(prompts)},
        **fields,
    )


def shown(made):
    text = page(report([made]))
    return text[text.index('<section id="written"') :].partition("</section>")[0]


def test_each_token_says_without_colour_who_wrote_it():
    section = shown(answered(1))
    (words,) = re.findall(r'<p class="text"[^>]*>(.*?)</p>', section, re.DOTALL)
    assert words.startswith(
        'Why<span class="draft"> is</span><del class="refused" title="1 refused"> \ufffdred</del>'
    )
    assert '<ins class="correction"> sky</ins><span class="draft"> the</span><span class="bonus">' in words
    assert '<del class="refused" title="3 refused">(3)</del><ins class="correction"> sky</ins> is' in words
    assert "7 tokens: 2 written by the draft, 5 by the target; 4 drafted tokens refused." in section
    tags = Tags(section)
    assert {tag for tag, _ in tags.found} & {"script", "img"} == set()
    assert f"question 0 {EVIL}" in tags.text
    for author in ("draft", "correction", "bonus", "target"):
        assert f"{author}: " in tags.text, "a legend in words"


def test_wrong_answers_come_first_and_only_so_many_prompts_are_shown():
    tasks = {"13": Task("number", ("4",)), "1": Task("contains", ("t",))}
    section = shown(answered(15, tasks=tasks))
    prompts = re.findall(r"<summary>(\d+) \(c\)(, wrong)?", section)
    assert prompts == [("13", ", wrong"), *((str(number), "") for number in range(11))]
    assert "to 12 of 15 prompts, those with a wrong answer first" in section
    assert "Score 0 (wrong): number 4." in section
    assert section.count("<details") == section.count('name="written"') == 12
    assert section.count(" open>") == 1


def test_a_long_answer_and_a_long_question_are_cut(monkeypatch):
    monkeypatch.setattr(written, "MOST_TOKENS", 3)
    monkeypatch.setattr(written, "MOST_LETTERS", 10)
    section = shown(answered(1))
    assert "[4 more tokens]" in section
    assert "quest [...] " in section


def test_where_the_tokenizer_is_gone_the_page_says_so(monkeypatch):
    monkeypatch.undo()
    made = answered(1, profile={**PROFILE, "cloud": {"dtype": "float32", "model": "no/where"}})
    assert "The answers cannot be shown: the profile of run r1" in shown(made)


def test_a_run_without_drafts_has_no_such_view():
    assert written.view([run([generation("1")])]) is None
