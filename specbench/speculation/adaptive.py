"""The loop that chooses in each round: the cloud alone, a proposal, several in flight, or a look-up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from math import exp, log, log1p
from typing import TYPE_CHECKING, Protocol, cast

from specbench.clock import now_ms
from specbench.results.records import Round
from specbench.speculation.draft_length import LONGEST, DraftLengths
from specbench.speculation.loop import DraftModel, Target
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.speculation.suffix import SuffixDrafter
from specbench.speculation.window import WindowLoop
from specbench.speculation.window_sizes import WindowSizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specbench.engine.batch import Steps
    from specbench.engine.session import Block, Passed

GUESS_WEIGHT = 1.0  # the first guess of acceptance yields to a few tokens: what is drafted along costs nothing
MARGIN = 0.02  # a change must save so much of the time per token
FALLS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Chances of a drafted token to be refused, which are equally likely at first."""
BUDGET = 0.06  # of the time of a whole sequence alone: once drafting has lost that, it must win what it lost
PROBED = 4.0  # tokens after which acceptance is known better
FIRST_STEPS = 3  # draft steps beside a stream whose time is not looked at: the first ones may be slow
PATIENCE = 4  # tokens decoded alone before drafting is tried again where nothing was drafted along; doubles


class SwitchingTarget(Target, Protocol):
    """A target elsewhere that can be left and asked to go on alone, as often as one likes.

    Attributes:
        streams: as of `StreamingTarget`.
        goes_on: to be set before `begin`: the target decodes on behind the prompt without being asked.
    """

    streams: bool
    goes_on: bool

    def go_on(self) -> None:
        """Ask the target to decode alone behind what is in flight, whatever becomes of that."""

    def decode(self, until: Callable[[], bool]) -> Generator[Round, None, None]:
        """What it says alone, to the end of the sequence or until it hears that `until` says so."""


class LookupDrafter:
    """A draft model, and a look-up in the sequence beside it, which may draft a round in its place.

    Args:
        lookup: `None` where the rule judges only what the model drew.
    """

    def __init__(self, model: DraftModel, lookup: SuffixDrafter | None) -> None:
        self._model = model
        self._lookup = lookup

    def begin(self, request: Request) -> None:
        """Read the prompt, twice."""
        if self._lookup:
            self._lookup.begin(request)
        self._model.begin(request)

    def found(self, draft_length: int) -> tuple[int, ...]:
        """What followed the sequence's longest suffix that occurred before; nothing is proposed."""
        return tuple(self._lookup.propose(draft_length).tokens) if self._lookup and draft_length > 0 else ()

    def propose(self, draft_length: int) -> Proposal:
        """What the model drafts."""
        return self._model.propose(draft_length)

    def propose_found(self, tokens: Sequence[int]) -> Proposal:
        """What was found, as the model's next proposal."""
        self._model.append(tokens)
        return self._model.propose(len(tokens))

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed, in both."""
        if self._lookup:
            self._lookup.commit(tokens, accepted)
        return self._model.commit(tokens, accepted)

    def decode_alone(self) -> Iterator[int]:
        """The model's own text, where the cloud is lost for good."""
        return self._model.decode_alone()

    def check(self) -> None:
        """The length of the model's cache."""
        self._model.check()


class AdaptiveLoop(WindowLoop):
    """Chooses by what this sequence has shown so far: costs, acceptance and round trip.

    A sequence begins with the cloud alone, which streams. Meanwhile the edge has nothing to do, so it drafts a
    token along with each and sees which of them the target says too: what drafting would be worth costs no time
    to find out. Where drafting is expected to be faster, the edge has the stream stopped; tokens come until the
    cloud hears that. Where drafting turns out slower, the cloud is told to go on alone right behind the last
    proposal. So neither way costs a round trip.

    A target that does not stream (in this process, or a vLLM server) takes plain steps instead, which hide
    nothing. There the first rounds draft, and behind ever more plain steps drafting is tried again.

    Args:
        target: asked to decode on behind each prompt, where it streams.
    """

    _drafter: LookupDrafter

    def __init__(self, drafter: LookupDrafter, target: Target) -> None:
        self._switching = cast(SwitchingTarget, target) if getattr(target, "streams", False) else None
        super().__init__(drafter, target, "auto", "auto" if self._switching else 1)
        if self._switching:
            self._switching.goes_on = True

    def _begin(self, request: Request) -> None:
        super()._begin(request)
        self._sizes = WindowSizes(self._window, "auto", GUESS_WEIGHT)
        self._lookups = DraftLengths("auto")
        self._streamed_ms, self._streamed, self._along = 0.0, 0, 0
        self._steps_left, self._patience = 0, PATIENCE
        self._leaves = False  # what is being done now
        self._has_asked_on = self._switching is not None
        self._came_ms = now_ms()
        self._lost_ms = 0.0  # by drafting, against the cloud alone
        self._stream: Generator[Round, None, None] | None = None

    def rounds(self, request: Request) -> Steps[Round]:
        """As of every loop; a stream that nobody reads on is stopped."""
        try:
            yield from super().rounds(request)
        finally:
            if self._stream:
                self._stream.close()

    def _round(self) -> Generator[Block, Passed, Round]:
        if self._switching and self._has_asked_on and not self._in_flight:
            self._has_asked_on = self._leaves = self._tells = False
            self._is_first = True
            self._stream = self._switching.decode(lambda: self._leaves)
        if self._stream is not None:
            if part := self._streamed_part(self._stream):
                return part
            self._stream, self._leaves = None, False
        if self._steps_left:
            return self._step()
        if not self._in_flight and (found := self._found()):
            commit, choice = self._looked_up(found), "lookup"
        else:
            choice = "window" if self._in_flight or self._sizes.window > 1 else "round"
            commit = yield from super()._round()
        came_ms, self._came_ms = self._came_ms, now_ms()
        self._lost_ms += self._came_ms - came_ms - self._alone_ms * len(commit.tokens)
        self._reconsider()
        return replace(commit, choice=choice)

    # What the cloud says alone

    def _streamed_part(self, stream: Iterator[Round]) -> Round | None:
        """The next token of a stream, with one drafted along; `None` where the stream has stopped."""
        started, drafted, found = now_ms(), tuple[int, ...](), tuple[int, ...]()
        tells, self._tells = self._tells, False
        if not tells and self._target.remaining > 1 and self._drafts_along():
            drafted, found = tuple(self._drafter.propose(1).tokens), self._drafter.found(1)
            self._along += 1
        draft_ms = now_ms() - started
        part = next(stream, None)
        if part is None:
            if drafted:  # nothing came that it could be held against
                self._drafter.commit((), 0)
            return None
        came_ms, self._came_ms = self._came_ms, now_ms()
        if not self._is_first:
            self._streamed_ms += self._came_ms - came_ms
            self._streamed += 1
        self._is_first = False
        hits = int(drafted == part.tokens[:1])
        self._drafter.commit(part.tokens, hits if drafted else 0)
        if found:
            self._lookups.observe(replace(part, accepted=int(found == part.tokens[:1])), 1, 0.0, 0, None)
        self._see(replace(part, drafted=len(drafted), accepted=hits if drafted else 0), draft_ms)
        if not self._leaves and part.finish_reason is None and self._pays():
            self._leaves = self._tells = True
        wasted = len(drafted) or None
        return replace(part, choice="alone", draft_ms=draft_ms if wasted else None, wasted_draft_tokens=wasted)

    def _drafts_along(self) -> bool:
        """Whether a draft step fits between two tokens of the stream."""
        return self._along < FIRST_STEPS or self._sizes.step_ms < self._alone_ms

    def _see(self, part: Round, draft_ms: float) -> None:
        """Remember a pass of one token, and whether what was drafted for it was right."""
        self._sizes.observe(replace(part, pass_tokens=1), draft_ms, self._target.rtt_ms)

    @property
    def _alone_ms(self) -> float:
        """What a token of the cloud alone takes."""
        return self._streamed_ms / self._streamed if self._streamed else self._sizes.verification[0]

    def _step(self) -> Round:
        """A token of a target that does not stream."""
        self._steps_left -= 1
        commit = self._target.submit(Proposal()).result()
        self._drafter.commit(commit.tokens, 0)
        self._see(commit, 0.0)
        return replace(commit, choice="alone")

    def _pays(self) -> bool:
        """Whether a sequence that is decoded alone is worth drafting for."""
        left = self._target.remaining
        gain_ms = (self._alone_ms - self._sizes.ms_per_token) * left
        loss_ms, risk_ms = self._losses_ms()
        if gain_ms < (self._target.rtt_ms or 0.0) or loss_ms > -MARGIN * self._alone_ms:
            return False
        return self._lost_ms + risk_ms < self._budget_ms or gain_ms > self._lost_ms

    @property
    def _budget_ms(self) -> float:
        """What drafting may lose in this sequence before it needs to be sure to win."""
        return BUDGET * self._alone_ms * self._request.max_new_tokens

    def _losses_ms(self) -> tuple[float, float]:
        """What an epoch of drafting is expected to take beyond the cloud alone, whatever acceptance may be.

        A gain counts for as many tokens as it would take to know better. So the less a refusal costs, the
        sooner drafting is tried.

        Returns:
            What it is expected to lose, and the share of that for which it loses anything.
        """
        stood, fell = self._sizes.judged
        logs = [stood * log1p(-falls) + fell * log(falls) for falls in FALLS]
        loss_ms = risk_ms = weights = 0.0
        for falls, likely in zip(FALLS, logs, strict=True):
            weight = exp(likely - max(logs))
            ms, tokens = self._sizes.expected(1 - falls)
            lost_ms = ms / tokens - self._alone_ms
            loss_ms += weight * lost_ms * (tokens if lost_ms > 0 else min(tokens, PROBED))
            risk_ms += weight * tokens * max(lost_ms, 0.0)
            weights += weight
        return loss_ms / weights, risk_ms / weights

    # What is drafted

    def _drafts_on(self) -> bool:
        return not (self._in_flight and self._leaves) and super()._drafts_on()

    def _send(self) -> None:
        super()._send()
        self._ask_on()

    def _ask_on(self) -> None:
        """Have the cloud go on alone behind what is in flight, where that was decided."""
        if self._switching and self._leaves:
            self._switching.go_on()
            self._has_asked_on = True

    def _found(self) -> tuple[int, ...]:
        """What is found in the sequence, where drafting that is expected to be fastest."""
        found = self._drafter.found(min(LONGEST, self._target.remaining - 1))
        if not found:
            return ()
        plain_ms, token_ms = self._sizes.verification
        round_ms = plain_ms + len(found) * token_ms + (self._target.rtt_ms or 0.0)
        ms_per_token = round_ms / (1 + sum(self._lookups.survival(len(found))))
        return found if ms_per_token < self._sizes.ms_per_token else ()

    def _looked_up(self, found: Sequence[int]) -> Round:
        """A round whose draft was found in the sequence."""
        pending = self._target.submit(self._drafter.propose_found(found))
        self._ask_on()
        commit = pending.result()
        self._drafter.commit(commit.tokens, commit.accepted or 0)
        self._lookups.observe(commit, len(found), 0.0, 0, None)
        width = replace(commit, drafted=0, accepted=0, pass_tokens=len(found) + 1)
        self._sizes.observe(width, 0.0, self._target.rtt_ms)
        return commit

    def _reconsider(self) -> None:
        """After a verdict: whether the cloud is to go on alone."""
        if self._leaves:
            return
        more_ms, margin_ms = self._sizes.ms_per_token - self._alone_ms, MARGIN * self._alone_ms
        has_lost = self._lost_ms > self._budget_ms and more_ms > -margin_ms
        if not has_lost and (more_ms <= margin_ms or self._losses_ms()[0] <= margin_ms):
            return
        if self._switching is None:
            self._steps_left, self._patience = self._patience, 2 * self._patience
            return
        self._leaves = True
        if self._in_flight:
            self._ask_on()
