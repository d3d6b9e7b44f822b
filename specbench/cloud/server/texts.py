"""A place at the server where one text at a time is decoded, and what its steps say in frames."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.clock import now_ms
from specbench.cloud.server.checks import RefusalError
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.answers import Committed
from specbench.cloud.transport.fields import packed_ids
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.overtaking import left_of
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Needs
from specbench.speculation.target import LocalTarget


class Text:
    """A place where one text at a time is decoded.

    Attributes:
        needs: as the edge asked for when it opened the place.
        room: tokens that its caches were made for.
        epoch: how many drafts of this text were refused; those of an older epoch are void.
        goes_on: the last draft that came says that another one follows it.
        stream: the frame that asked for what is decoded alone here; `None` where nothing is.
    """

    def __init__(self, target: LocalTarget, options: Options, needs: Needs) -> None:
        self.target = target
        self.options = options
        self.needs = needs
        self.is_open = False
        self.room = self.epoch = 0
        self.goes_on = False
        self.stream: protocol.Up | None = None

    def begin(self) -> None:
        """Empty the place for the next text."""
        self.end()
        self.epoch, self.goes_on = 0, False

    def end(self) -> None:
        """Keep the place and free its caches; drafts that are under way to it are void."""
        self.is_open, self.room, self.stream = False, 0, None
        self.epoch += 1
        self.target.release()

    def trust(self, tokens: Sequence[int]) -> None:
        """Commit tokens unseen, as a gate asks for; nothing is streamed behind them."""
        self.stream = None
        if self.target.trust(tokens).finish_reason:
            self.end()

    def is_void(self, draft: protocol.Verify) -> bool:
        """Whether a draft follows one that was refused, or the end of its text."""
        return draft.epoch < self.epoch and (self.goes_on or draft.start is not None)

    def left_of(self, start: int | None, drafts: Sequence[Proposal]) -> Sequence[Proposal]:
        """What is to be judged of drafts that go on from each other; what the text refutes is void.

        Args:
            start: of the first one, as of `protocol.Verify`.

        Raises:
            RefusalError: they start where no draft can.
        """
        if start is None:
            if self.stream:
                raise RefusalError("a draft that does not say where it starts came into a stream")
            return drafts
        said = self.target.said(start)
        if said is None or (said and not self.stream):
            raise RefusalError(f"a draft starts behind {start} tokens, and the text is elsewhere")
        left = left_of(drafts, said, self.stream is not None)
        self.epoch += left is None
        return left or ()

    def verdict(self, frame: protocol.Verify, draft: Proposal, commit: Round, arrived_ms: float) -> Committed:
        """The reply to a draft; its refusal begins a new epoch."""
        reply = self.reply(frame, commit, arrived_ms)
        if not commit.finish_reason:
            self.epoch += (commit.accepted or 0) < len(draft)
            if frame.goes_on and not draft.stands(commit):
                self.stream = frame
        return reply

    def reply(self, frame: protocol.Up, commit: Round, arrived_ms: float) -> Committed:
        """A commit as a frame; one that ends the text frees its caches."""
        target = self.target
        states = target.readings.packed_states if self.needs.features else b""
        read = packed_ids(target.top_ids), states
        found = committed(frame, commit, arrived_ms, target.cached_length, target.draws, *read)
        if commit.finish_reason:
            self.end()
        return found


def committed(
    frame: protocol.Up,
    commit: Round,
    arrived_ms: float,
    cached: int,
    draws: tuple[int, int, int] = (0, 0, 0),
    top_ids: bytes = b"",
    hidden_states: bytes = b"",
) -> Committed:
    """A commit as the reply to a frame that arrived at `arrived_ms`."""
    fields = (
        frame.number,
        commit.tokens,
        commit.accepted or 0,
        answers.FINISH_REASONS.index(commit.finish_reason),
        round((commit.verify_ms or 0.0) * 1000),
        round((now_ms() - arrived_ms) * 1000),
        cached,
        *draws,
        commit.drafted,
        round((commit.draft_ms or 0.0) * 1000),
        commit.shared or 1,
        round((commit.pass_ms or 0.0) * 1000),
        commit.pass_tokens,
        round((commit.wasted_verify_ms or 0.0) * 1000),
    )
    more = (commit.depth, top_ids, hidden_states, commit.forced, commit.forced_accepted,
            commit.replayed_tokens, commit.snapshot_bytes)  # fmt: skip
    if any(part is not None and part != b"" for part in more):
        return answers.CommittedMore(*fields, *more)
    return Committed(*fields)
