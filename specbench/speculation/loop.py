"""The loop of speculative decoding: draft, verify, commit, roll back. Every method that drafts runs it.

A `Drafter` proposes and a `Target` verifies; the loop knows neither a model nor a wire. It is written in steps
(`engine.batch.Steps`): a server that reads several sequences in one pass takes the loop's blocks, and beside
the edge `alone` reads each block in a pass of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from specbench.clock import now_ms
from specbench.results.records import Round
from specbench.speculation.ahead import AheadWindow
from specbench.speculation.draft_length import DraftLengths
from specbench.speculation.features import Features
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Pending, Request, TopIds

if TYPE_CHECKING:
    import torch

    from specbench.engine.batch import Steps
    from specbench.engine.session import Block, Passed


class Drafter(Protocol):
    """Proposes tokens that follow the committed ones: a draft model, a table, whatever a method brings."""

    def begin(self, request: Request) -> None:
        """Forget the sequence before, and read the prompt of this one."""

    def propose(self, draft_length: int) -> Proposal:
        """At most `draft_length` tokens behind all that is committed; without any the round is a plain step.

        A tree has no path of more, and as many nodes as the drafter likes, up to `proposal.MOST_NODES`.

        A drafter of a method that `takes_window` is asked again before the verdict, and goes on behind what it
        has proposed.
        """

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what the target committed, and roll back what it refused.

        Args:
            tokens: the committed ids, of which the first `accepted` are those of the oldest proposal. Where
                they are all of it and no more, the proposals behind it stand; else none of them does.

        Returns:
            Tokens drafted ahead of the proposal that are now wasted.
        """

    def check(self) -> None:
        """Assert what must hold between rounds, such as the length of a cache."""


class AheadDrafter(Drafter, Protocol):
    """A drafter that drafts on while its proposal is being verified."""

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged: those proposed, and those ahead of them."""

    def draft_ahead(self) -> int | None:
        """Draft and return one more token, as if all that was drafted so far were to be committed.

        A drafter may draft for other outcomes beside that one; `None` where it can draft no further ahead.
        """


@runtime_checkable
class FallbackDrafter(Drafter, Protocol):
    """A drafter that can finish a sequence whose cloud was lost for good (`cloud.on_cloud_loss: edge_only`)."""

    def decode_alone(self) -> Iterator[int]:
        """Tokens behind all that is committed, without end; the text is not the cloud's any more."""


class DraftModel(AheadDrafter, FallbackDrafter, Protocol):
    """A model that drafts, as `edge.drafter` gives one; it goes on behind tokens of another drafter."""

    def append(self, tokens: Sequence[int]) -> None:
        """Take tokens of another's proposal behind all that is drafted; `propose` returns them first."""

    def overtake(self, token: int) -> bool:
        """Take over a token that the target said by itself; whether what is drafted begins with it."""


class TargetReader(Drafter, Protocol):
    """A drafter whose method has `target_top_k`: it reads the ids that the target finds likeliest.

    Attributes:
        target: its `top_ids` are those of the pass that `begin` or `commit` has just been told of.
    """

    target: Target


class FeatureDrafter(Drafter, Protocol):
    """A drafter whose method `reads_features`: it reads hidden states of the target in `commit`.

    Attributes:
        features: which ones.
        target: its `hidden_states` are those of the pass that `begin` or `commit` has just been told of.
    """

    features: Features
    target: Target


class Target(Protocol):
    """Verifies proposals and commits tokens, one sequence at a time; in this process or elsewhere."""

    @property
    def top_ids(self) -> TopIds:
        """Of the pass behind the last commit, where the method needs them; see `request.TopIds`."""

    @property
    def hidden_states(self) -> torch.Tensor | None:
        """Of the pass behind the last commit, where the method needs them.

        float32 of shape (tokens, layers, size): a row for each committed token, behind the token before it.
        Behind a prompt they are those of all its tokens. `None` where the text has ended.
        """

    @property
    def rtt_ms(self) -> float | None:
        """The last round trip without the target's own work, in milliseconds; `None` in one process."""

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are left."""

    def begin(self, request: Request) -> Round:
        """Read the prompt, and commit the target's first token."""

    def verified(self, proposal: Proposal) -> Generator[Block, Passed, Round]:
        """Check drafted tokens in one pass; commit those accepted and one token of the target's own.

        A target in this process yields the block to be read and is sent its pass; one elsewhere yields nothing.
        """

    def submit(self, proposal: Proposal) -> Pending:
        """Begin a verification and return at once.

        Behind a proposal with `continues` another one may be submitted before its result is asked for. Results
        are asked for in order; a refusal makes void what was submitted behind it, and nobody asks for those.
        """

    def trust(self, tokens: Sequence[int]) -> Round:
        """Commit drafted tokens unverified, as a gate asks for."""

    def check(self) -> None:
        """Assert the length of the cache."""


class StreamingTarget(Protocol):
    """A target that goes on by itself.

    Attributes:
        streams: whether `decode` computes on while nobody reads it.
    """

    streams: bool

    def begin(self, request: Request) -> Round:
        """Read the prompt, and commit the target's first token."""

    def decode(self) -> Iterator[Round]:
        """Go on to the end of the sequence."""

    def check(self) -> None:
        """Assert the length of the cache."""


def proposed(drafter: Drafter, draft_length: int) -> Proposal:
    """What a drafter proposes.

    Raises:
        ValueError: more tokens, or a deeper tree, than were asked for; its row would name another length.
    """
    proposal = drafter.propose(draft_length)
    if proposal.depth > max(draft_length, 0):
        raise ValueError(
            f"the drafter proposed {proposal.depth} tokens where at most {draft_length} were asked for"
        )
    return proposal


class SpeculativeLoop:
    """One verification in flight, and no drafting meanwhile.

    Args:
        draft_length: tokens a round, or `auto`.

    Attributes:
        runs_on: as of a `Decoder`: a verification is under way while a round is looked at.
    """

    runs_on = False

    def __init__(self, drafter: Drafter, target: Target, draft_length: int | Literal["auto"]) -> None:
        self._drafter = drafter
        self._target = target
        self._draft_length = draft_length

    def rounds(self, request: Request) -> Steps[Round]:
        """Rounds to the end of a sequence that drafter and target have begun, each with what was drafted."""
        self._begin(request)
        while True:
            commit = yield from self._round()
            yield commit
            if commit.finish_reason:
                return

    def _begin(self, request: Request) -> None:
        self._request = request
        self._lengths = DraftLengths(self._draft_length)

    def _proposal(self) -> Proposal:
        # The target adds a token of its own, so a longer draft than this could not be committed.
        return proposed(self._drafter, self._lengths.next(self._target.remaining - 1))

    def _round(self) -> Generator[Block, Passed, Round]:
        started = now_ms()
        proposal = self._proposal()
        draft_ms = now_ms() - started
        if proposal.is_certain and self._request.stop_ids.isdisjoint(proposal.tokens):
            return self._trusted(proposal, draft_ms)
        commit = yield from self._target.verified(proposal)
        _, upkeep_ms = self._take_over(commit)
        self._lengths.observe(commit, proposal.depth, draft_ms, proposal.depth, self._target.rtt_ms)
        return replace(commit, draft_ms=draft_ms + upkeep_ms)

    def _take_over(self, commit: Round) -> tuple[int, float]:
        """Tell the drafter of a verdict; returns the tokens that it wasted, and the time that it took."""
        started, accepted = now_ms(), commit.accepted or 0
        return self._drafter.commit(commit.tokens, accepted), now_ms() - started

    def _trusted(self, proposal: Proposal, draft_ms: float) -> Round:
        """A round that the profile's gate lets pass unverified."""
        commit = self._target.trust(proposal.tokens)
        self._drafter.commit(commit.tokens, len(commit.tokens))
        return replace(commit, draft_ms=draft_ms)


class AheadLoop(SpeculativeLoop):
    """One verification in flight, and the drafter drafts on meanwhile.

    After a proposal the drafter guesses the token that the target will add, and drafts the next proposal after
    that. If all is accepted and the guess is right, that much of the next proposal is there; else it is
    dropped. At a fixed draft length every proposal is the one that `SpeculativeLoop` makes, only earlier. It
    needs a rule that commits the drafter's own choice or refuses it (`greedy`, `coupled`).

    Nothing is in flight when a round is yielded, so what the runner does meanwhile hides nothing.
    """

    _drafter: AheadDrafter

    def __init__(self, drafter: AheadDrafter, target: Target, draft_length: int | Literal["auto"]) -> None:
        super().__init__(drafter, target, draft_length)

    def _begin(self, request: Request) -> None:
        super()._begin(request)
        self._window = AheadWindow()

    def _round(self) -> Generator[Block, Passed, Round]:
        drafter, target = self._drafter, self._target
        started, carried = now_ms(), drafter.uncommitted
        proposal = self._proposal()
        sent_ms = now_ms()
        pending, behind = target.submit(proposal), drafter.uncommitted
        self._draft_ahead(proposal, pending, sent_ms)
        draft_ms, ahead = now_ms() - started, drafter.uncommitted - len(proposal)
        steps = max(0, len(proposal) - carried) + drafter.uncommitted - behind
        commit = pending.result()
        wasted, upkeep_ms = self._take_over(commit)
        ready = drafter.uncommitted
        self._lengths.observe(commit, len(proposal), draft_ms, steps, target.rtt_ms)
        round_trip_ms = (commit.verify_ms or 0.0) + (target.rtt_ms or 0.0)
        stood = (ready > 0 or not wasted) if ahead else None
        self._window.observe(round_trip_ms, draft_ms / steps if steps else None, stood)
        commit = replace(commit, wasted_draft_tokens=wasted, ready_draft_tokens=ready)
        return replace(commit, draft_ms=draft_ms + upkeep_ms)
        yield  # a generator, though it waits for its passes by itself

    def _draft_ahead(self, proposal: Proposal, pending: Pending, sent_ms: float) -> None:
        """Draft until the next proposal is there, the verdict is, or going on does not pay."""
        drafter, stop_ids = self._drafter, self._request.stop_ids
        # The target adds a token of its own here, and one behind the next proposal.
        room = self._target.remaining - len(proposal) - 2
        if room <= 0 or not stop_ids.isdisjoint(proposal.tokens):
            return
        wanted = len(proposal) + 1 + self._lengths.next(room)
        while drafter.uncommitted < wanted and not pending.is_done and self._window.pays(now_ms() - sent_ms):
            token = drafter.draft_ahead()
            if token is None or (token in stop_ids and drafter.uncommitted == len(proposal) + 1):
                return  # no room, or the guess is that the sequence ends here
