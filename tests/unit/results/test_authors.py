"""Who wrote each token of a stored answer."""

from dataclasses import replace

import pytest
from builders import manifest

from specbench.render.answers import answer
from specbench.results.authors import Piece, pieces
from specbench.results.records import Generation, Round, Task
from specbench.speculation.proposal import Proposal

LETTERS = {1: "Why", 2: " is", 3: " the", 4: " sky", 5: " blue", 6: " red\n"}


def decode(tokens):
    return "".join(LETTERS[token] for token in tokens)


def generation(*rounds):
    fields = {"category": "qa", "turn": 0, "turns": 1, "repeat": 0, "prompt_tokens": 1, "prompt_sha256": ""}
    arrivals = tuple(float(number) for number, _ in enumerate(rounds))
    return Generation("m", "1", **fields, text="", finish_reason="length", rounds=rounds, arrival_ms=arrivals)


def test_accepted_tokens_are_the_drafts_and_the_one_behind_them_is_the_targets():
    corrected = Round((2, 3, 4), drafted=4, accepted=2, refused=(6, 5))
    whole = Round((3, 5), drafted=1, accepted=1, refused=())
    assert list(pieces(generation(Round((1,)), corrected, whole), decode)) == [
        Piece(0, "target", (1,), "Why"),
        Piece(1, "draft", (2, 3), " is the"),
        Piece(1, "correction", (4,), " sky", 2, (6, 5), " red\n blue"),
        Piece(2, "draft", (3,), " the"),
        Piece(2, "bonus", (5,), " blue"),
    ]


def test_a_round_that_drafted_and_had_nothing_accepted_is_a_correction_and_one_without_a_draft_is_not():
    made = generation(Round((1,)), Round((2,), drafted=2, accepted=0), Round((3,), drafted=0, accepted=0))
    assert [piece.author for piece in pieces(made, decode)] == ["target", "correction", "target"]


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
    assert "4 tokens: 2 written by the draft, 2 by the target; 1 drafted tokens refused." in shown
    assert "[draft], correction, target, (-N: text)" in shown


def test_what_was_refused_is_shown_on_one_line_and_a_bonus_token_has_a_sign():
    made = generation(
        Round((1,)), Round((2, 4), drafted=2, accepted=1, refused=(6,)), Round((3, 5), drafted=1, accepted=1)
    )
    shown = answer(made, list(pieces(made, decode)), manifest(), coloured=False).plain
    assert "Why[ is](-1:  red⏎) sky[ the]+ blue" in shown


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


@pytest.mark.parametrize(
    ("proposal", "tokens", "accepted", "refused"),
    [
        (Proposal((5, 6, 7)), (5, 9), 1, (6, 7)),
        (Proposal((5, 6)), (5, 6, 9), 2, ()),
        (Proposal((5, 1, 7)), (5, 1), 2, ()),  # a stop token was accepted: nobody judged what follows
        (Proposal((5, 6, 7, 8), parents=(-1, -1, 0, 0)), (9,), 0, (5, 6)),
        (Proposal((5, 6, 7, 8), parents=(-1, -1, 0, 0)), (5, 9), 1, (7, 8)),
        (Proposal((5, 6, 7, 8), parents=(-1, -1, 0, 0)), (6, 9), 1, ()),
    ],
)
def test_what_a_verdict_refuses_of_a_chain_and_of_a_tree(proposal, tokens, accepted, refused):
    assert proposal.refused(Round(tokens, drafted=len(proposal), accepted=accepted)) == refused
