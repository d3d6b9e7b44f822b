"""Who wrote each token of a stored answer."""

from dataclasses import replace

import pytest
from builders import manifest

from specbench.render.answers import answer
from specbench.results.authors import Piece, pieces
from specbench.results.records import Generation, Round, Task

LETTERS = {1: "Why", 2: " is", 3: " the", 4: " sky", 5: " blue"}


def decode(tokens):
    return "".join(LETTERS[token] for token in tokens)


def generation(*rounds):
    fields = {"category": "qa", "turn": 0, "turns": 1, "repeat": 0, "prompt_tokens": 1, "prompt_sha256": ""}
    arrivals = tuple(float(number) for number, _ in enumerate(rounds))
    return Generation("m", "1", **fields, text="", finish_reason="length", rounds=rounds, arrival_ms=arrivals)


def test_accepted_tokens_are_the_drafts_and_the_one_behind_them_is_the_targets():
    found = list(pieces(generation(Round((1,)), Round((2, 3, 4), drafted=4, accepted=2)), decode))
    assert found == [
        Piece(0, "target", (1,), "Why"),
        Piece(1, "draft", (2, 3), " is the"),
        Piece(1, "target", (4,), " sky", refused=2),
    ]


def test_unverified_tokens_stand_apart():
    authors = [piece.author for piece in pieces(generation(Round((1, 2), unverified=2), Round((3,))), decode)]
    assert authors == ["unverified draft", "target"]


def test_a_character_of_several_tokens_belongs_to_the_one_that_completes_it():
    halves = {(1,): "\ufffd", (1, 2): "é", (1, 2, 3): "é!"}
    rounds = (Round((1,), drafted=1, accepted=1), Round((2,)), Round((3,)))
    found = list(pieces(generation(*rounds), lambda tokens: halves[tuple(tokens)]))
    assert [piece.text for piece in found] == ["", "é", "!"]


def test_without_colours_the_drafts_tokens_stand_in_brackets():
    made = generation(Round((1,)), Round((2,), drafted=1, accepted=1), Round((3, 4), drafted=2, accepted=1))
    shown = answer(made, list(pieces(made, decode)), manifest(), coloured=False).plain
    assert "Why[ is the](-1) sky" in shown
    assert "4 tokens: 2 written by the draft (in brackets), 2 by the target" in shown


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task("number", ("391",)), "Score 1 (right): number 391."),
        (Task("number", ("392",)), "Score 0 (wrong): number 392."),
        (Task("contains", ("391", "no")), "Score 0.5 (partly right): contains 391, no."),
        (Task("json"), "Score 0 (wrong): json."),
        (None, ""),
    ],
)
def test_an_answer_that_is_checked_is_shown_with_its_score(task, said):
    made = replace(generation(Round((1,))), text="It is 391.")
    run = manifest(tasks={"1": task} if task else {})
    lines = answer(made, list(pieces(made, decode)), run, coloured=False).plain.splitlines()
    assert (lines[-1] if "Score" in lines[-1] else "") == said


def test_the_prefill_stands_before_the_answer():
    made = generation(Round((1,)), Round((2,)))
    shown = answer(made, list(pieces(made, decode)), manifest(prefills={"1": "Well: "}), coloured=False)
    assert "Well: Why is" in shown.plain
