"""Whether a server says what the reference says; at the first difference, whether rounding explains it.

A token is the reference's by a margin: how much more likely it holds its own token than the other. The margin
is computed twice, as the reference decoded and from the text so far sent anew. What it moves by is noise, as
two widths of a pass make it. A difference is a tie where the margin is at most twice the noise, as in
`speculation.ties`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specbench.servers.answers import Completion, Question, Token
from specbench.servers.base import Server
from specbench.verify import causes
from specbench.verify.prompts import Asked
from specbench.verify.records import DIFFERS, SAME, TIE, UNPROVEN, Steadiness, Verdict

NOISE_PROMPTS, NOISE_PLACES = 4, 4
LONGEST_LOOK = 32
LARGEST_NOISE = 1.0
"""In log-probability. What moves by more is not rounding, but a fault of the reference."""
NO_PROOF = "the reference gives no log-probabilities that prove anything"


def first_difference(theirs: Completion, ours: Completion) -> int | None:
    """Where two answers part, in tokens or else in characters; `None` where they do not."""
    left, right = _units(theirs, ours)
    for index, pair in enumerate(zip(left, right, strict=False)):
        if pair[0] != pair[1]:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def steadiness(server: Server, answers: Sequence[Sequence[Completion]]) -> Steadiness:
    """How often the same request was answered differently.

    Args:
        answers: of one prompt each.
    """
    differ = sum(any(first_difference(each[0], other) is not None for other in each[1:]) for each in answers)
    return Steadiness(server.url, len(answers), max(map(len, answers), default=0), differ)


def noise_of(reference: Server, questions: Sequence[Question]) -> float | None:
    """How far the reference's margins move where it computes them in another way; `None` without figures."""
    moved: list[float] = []
    if not reference.tops:
        return None
    for question in questions[:NOISE_PROMPTS]:
        along = reference.complete(replace(question, most=min(question.most, LONGEST_LOOK), top=reference.tops))
        if along.tokens is None or along.top is None:
            return None
        last = min(len(along.tokens), len(along.top)) - 1
        for place in sorted({last * step // NOISE_PLACES for step in range(1, NOISE_PLACES + 1)}):
            first, *others = sorted(along.top[place], key=along.top[place].__getitem__, reverse=True)
            anew = _top_behind(reference, question, along.tokens[:place])
            if not others or anew is None:
                continue
            pair = margin(along.top[place], first, others[0]), margin(anew, first, others[0])
            moved.append(abs(pair[0] - pair[1]))
    return max(moved, default=None)


def margin(top: dict[Token, float], own: Token | None, other: Token | None) -> float:
    """How much more likely one token is than another, at least; a token that is not told is below all that are.

    Args:
        own: `None` stands for the most likely one, `other` likewise for the most likely one but `own`.
    """
    least = min(top.values())
    if own is None:
        own = max(top, key=top.__getitem__)
    rest = [value for token, value in top.items() if token != own]
    theirs = top.get(other, least) if other is not None else max(rest, default=least)
    return top.get(own, least) - theirs


class Judge:
    """Judges pairs of answers to one prompt.

    Args:
        noise: of the reference, as of `noise_of`; `None` where it gives no log-probabilities.
    """

    def __init__(self, server: Server, reference: Server, noise: float | None) -> None:
        self._server, self._reference, self._noise = server, reference, noise

    def verdict(self, asked: Asked, theirs: Completion, ours: Completion) -> Verdict:
        """The verdict on a server's answer beside the reference's."""
        place, prompt_id, question = first_difference(theirs, ours), asked.prompt_id, asked.question
        if place is None:
            return Verdict(prompt_id, SAME)
        if theirs.tokens is None or ours.tokens is None:
            return Verdict(
                prompt_id, UNPROVEN, place, cause=causes.of_text(theirs, ours, place) or "texts alone are known"
            )
        if _only_the_stop_token(theirs, ours) and self._server.kind != self._reference.kind:
            return Verdict(prompt_id, SAME)
        own, other = (said[place] if place < len(said) else None for said in (theirs.tokens, ours.tokens))
        common = theirs.tokens[:place]
        shape = causes.of_shape(theirs, ours, place)
        if shape == causes.CUT or (own is None and self._has_stopped(question, theirs)):
            return Verdict(prompt_id, DIFFERS, place, (own, other), cause=shape or causes.BEHIND_STOP)
        margins = self._margins(question, theirs.tokens, place, own, other)
        if not margins or self._noise is None or self._noise > LARGEST_NOISE:
            return Verdict(prompt_id, UNPROVEN, place, (own, other), cause=shape or NO_PROOF)
        moved = max(margins) - min(margins)
        noise = max(self._noise, moved) if moved <= LARGEST_NOISE else self._noise
        verdict = TIE if min(map(abs, margins)) <= 2 * noise else DIFFERS
        cause: str | None = None
        if verdict == DIFFERS and margins[0] < 0:
            cause = causes.REFERENCE
        elif verdict == DIFFERS:
            cause = shape or self._tried_again(question, theirs, common, own)
        return Verdict(prompt_id, verdict, place, (own, other), margins[0], noise, cause)

    def _margins(
        self, question: Question, tokens: Sequence[Token], place: int, own: Token | None, other: Token | None
    ) -> list[float]:
        """From the text so far sent anew, and as the reference decodes along it."""
        anew = _top_behind(self._reference, question, tokens[:place])
        if anew is None:
            return []
        found = [margin(anew, own, other)]
        along = self._reference.complete(replace(question, most=place + 1, top=self._reference.tops))
        is_there = along.tokens is not None and along.tokens[:place] == tuple(tokens[:place])
        if is_there and along.top and len(along.top) > place:
            found.append(margin(along.top[place], own, other))
        return found

    def _has_stopped(self, question: Question, theirs: Completion) -> bool:
        """Whether the last token that the reference told is the one that ends a text."""
        if theirs.finish_reason != "stop" or not theirs.tokens:
            return False
        return self._reference.complete(question.behind(theirs.tokens[:-1])).finish_reason == "stop"

    def _tried_again(
        self, question: Question, theirs: Completion, common: Sequence[Token], own: Token | None
    ) -> str:
        """What the server says when it is asked again, and with the text so far sent anew."""
        again = self._server.complete(replace(question, most=theirs.said or 1).fresh)
        if first_difference(theirs, again) is None:
            return causes.EARLIER_REQUESTS
        anew = self._server.complete(question.behind(common).fresh).tokens
        if own is not None and anew and anew[0] == own:
            return causes.STATE
        return causes.MODEL


def _top_behind(server: Server, question: Question, said: Sequence[Token]) -> dict[Token, float] | None:
    """The most likely tokens behind a text that is sent anew."""
    top = server.complete(replace(question, top=server.tops).behind(said).fresh).top
    return top[0] if top and top[0] else None


def _units(theirs: Completion, ours: Completion) -> tuple[Sequence[Token], Sequence[Token]]:
    if theirs.tokens is None or ours.tokens is None:
        return theirs.text, ours.text
    return theirs.tokens, ours.tokens


def _only_the_stop_token(theirs: Completion, ours: Completion) -> bool:
    """Whether one tells the stop token and the other does not."""
    assert theirs.tokens is not None
    assert ours.tokens is not None
    shorter, longer = sorted((theirs.tokens, ours.tokens), key=len)
    both_stop = theirs.finish_reason == ours.finish_reason == "stop"
    return both_stop and len(longer) == len(shorter) + 1 and longer[:-1] == shorter
