"""The cloud's side of one connection: a frame in, frames out. It knows nothing of sockets."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from specbench.clock import now_ms
from specbench.cloud.server.about import EdgeCount, about
from specbench.cloud.server.arrivals import Follower
from specbench.cloud.server.checks import Checks, RefusalError
from specbench.cloud.server.host import Host
from specbench.cloud.server.texts import Text, committed
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.answers import Done, Dropped, Refused
from specbench.cloud.transport.fields import MOST_DRAWS, MOST_TOKENS, ProtocolError
from specbench.cloud.transport.protocol import encode
from specbench.engine.batch import Results, Steps, alone
from specbench.engine.session import Block
from specbench.errors import RanksLostError, SpecbenchError
from specbench.profile import Decoding, Options, Speculative
from specbench.profile.decoding import LONGEST_DRAFT
from specbench.results.records import Round
from specbench.speculation.features import Features
from specbench.speculation.recomputation import Recomputed
from specbench.speculation.request import Needs, Request
from specbench.speculation.ties import Evidence

MOST_TEXTS = 64
MOST_CONTEXTS = 4  # that the texts of one edge may fill


class Service:
    """Answers the frames of one edge, in order; holds its targets, and so its caches.

    Args:
        edges: that the server is connected to; this one alone when absent.
    """

    def __init__(self, host: Host, edges: EdgeCount | None = None) -> None:
        self._host, self.edges = host, edges or EdgeCount()
        self._checks = Checks(host)
        self._texts: dict[int, Text] = {}
        self.last = 0
        self.is_over = False
        self.refusal: str | None = None
        self.streams = False
        """Whether what follows is a stream, which ends when the edge sends something else."""
        self.drafts = self.dropped = self.dropped_unread = 0
        """How many drafts came, how many of them a refusal made void, and how many of those were not read."""

    @property
    def is_decoding(self) -> bool:
        """Whether a text has begun and not ended, so that its next step may come at any time."""
        return any(text.is_open for text in list(self._texts.values()))

    def handle(self, message: bytes, arrived_ms: float, followers: Sequence[Follower] = ()) -> Results[bytes]:
        """As `steps`, every pass a text's own."""
        return alone(self.steps(message, arrived_ms, followers))

    def steps(self, message: bytes, arrived_ms: float, followers: Sequence[Follower] = ()) -> Steps[bytes]:
        """The replies to one frame, and before some of them a block to be read. Never raises.

        Args:
            followers: drafts that arrived behind this one and go on from it; they are answered too.
        """
        number = self.last + 1
        try:
            frame = protocol.decode_up(message)
            self._demand_next(frame)
        except ProtocolError as error:
            self.is_over, self.refusal = True, str(error)
            yield encode(Refused(number, str(error), True))
            return
        self.last = number + len(followers)
        self.streams = isinstance(frame, protocol.Generate)
        self._unanswered = deque(range(number, self.last + 1))
        try:
            yield from self._replies(frame, arrived_ms, followers)
        except RefusalError as error:
            yield from self._refused(str(error))
        except RanksLostError as error:
            self.is_over, self.refusal = True, error.message
            yield from self._refused(error.message)
        except SpecbenchError as error:
            if (text := self._texts.get(getattr(frame, "text", -1))) is not None:
                text.end()  # nobody waits for its next step
            way_out = f"; {error.hint}" if error.hint else ""
            yield from self._refused(error.message + way_out)
        except Exception as error:
            # The cache may be half-written, so the text is lost; every other one goes on.
            self._texts.pop(getattr(frame, "text", -1), None)
            traceback.print_exc(file=sys.stderr)
            yield from self._refused(f"the cloud failed: {type(error).__name__}: {error}")

    def _refused(self, reason: str) -> Iterator[bytes]:
        """Say why there is no answer to the frame whose turn it is, and that those behind it are void."""
        yield encode(Refused(self._unanswered.popleft(), reason, self.is_over))
        for number in self._unanswered:
            yield encode(Dropped(number))

    def close(self) -> None:
        """Free every cache."""
        self._texts.clear()

    def _demand_next(self, frame: protocol.Up) -> None:
        if frame.number != self.last + 1:
            raise ProtocolError(f"received frame {frame.number}, expected {self.last + 1}")
        if isinstance(frame, protocol.Hello) != (self.last == 0):
            raise ProtocolError("the first frame is a Hello, and no other is")
        if not isinstance(frame, protocol.Hello):
            return
        if frame.version != protocol.VERSION:
            raise ProtocolError(
                f"the edge uses protocol version {frame.version}, the server {protocol.VERSION}"
            )
        if frame.tokenizer_sha256 != self._host.facts.tokenizer_sha256:
            raise ProtocolError("edge and server use different tokenizers")

    def _replies(self, frame: protocol.Up, arrived_ms: float, followers: Sequence[Follower]) -> Steps[bytes]:
        if isinstance(frame, protocol.About):
            yield encode(about(self._host, frame, self.edges))
        elif isinstance(frame, protocol.Open):
            self._open(frame)
            if frame.draft is None:
                yield encode(Done(frame.number))
            else:
                yield encode(answers.Opened(frame.number, *self._host.drafting()))
        elif isinstance(frame, protocol.Stop):
            for each in self._texts.values():
                each.stream = None
            yield encode(Done(frame.number))
        elif isinstance(frame, protocol.Close):
            self.close()
            self.is_over = True
            yield encode(Done(frame.number))
        elif isinstance(frame, protocol.Prove):
            yield encode(answers.Proven(frame.number, self._evidence(frame)))
        elif isinstance(frame, protocol.Recompute):
            yield encode(answers.Held(frame.number, self._recomputed(frame)))
        elif isinstance(frame, protocol.Generate):
            text = self._text(frame.text)
            cached = len(frame.prompt_ids) - 1
            request = self._checks.request(frame, text.options)
            for commit in self._host.generate(request, text.options.decoding):
                cached += len(commit.tokens)
                yield encode(committed(frame, commit, arrived_ms, cached))
        elif isinstance(frame, protocol.Verify):
            yield from self._verify([(frame, arrived_ms), *followers])
        else:
            yield from self._advance(frame, arrived_ms)

    def _verify(self, asked: Sequence[Follower]) -> Steps[bytes]:
        """Judge drafts of one epoch that go on from each other, in one pass; drop them where that is over."""
        text, first = self._text(asked[0][0].text), asked[0][0]
        self.drafts += len(asked)
        is_void, text.goes_on = text.is_void(first), asked[-1][0].continues
        if is_void:
            self.dropped_unread += len(asked)
            yield from self._dropped(text)
            return
        self._demand_open(text)
        if first.epoch != text.epoch:
            raise RefusalError(f"a draft of epoch {first.epoch} came in epoch {text.epoch}")
        drafts = [self._checks.proposal(frame, text.options, text.needs) for frame, _ in asked]
        left = text.left_of(first.start, drafts)
        if not left:
            yield from self._dropped(text)
            return
        gone, text.stream = len(asked) - len(left), None
        yield from (encode(Dropped(self._unanswered.popleft())) for _ in range(gone))
        steps, waiting = text.target.verifying(*left), deque(zip(left, asked[gone:], strict=True))
        item = next(steps, None)
        while item is not None:
            if isinstance(item, Block):
                item = steps.send((yield item))
                continue
            draft, (frame, arrived_ms) = waiting.popleft()
            reply = text.verdict(frame, draft, item, arrived_ms)
            self._unanswered.popleft()
            self.streams = text.stream is not None and not self._unanswered
            yield encode(reply)
            item = next(steps, None)
        yield from self._dropped(text)

    def _dropped(self, text: Text) -> Steps[bytes]:
        """Say that the drafts which have no answer yet are void; then what the text has streamed goes on."""
        self.dropped += len(self._unanswered)
        while self._unanswered:
            number = self._unanswered.popleft()
            self.streams = text.stream is not None and not self._unanswered
            yield encode(Dropped(number))
        if text.stream:
            yield from self._streamed(text, text.stream, now_ms())

    def _streamed(self, text: Text, frame: protocol.Up, arrived_ms: float) -> Steps[bytes]:
        """Decode alone, to the end of the text, in replies to the frame that asked for it."""
        self.streams, text.stream = True, frame
        yield from self._commits(text, frame, arrived_ms, text.target.decoding())

    def _commits(self, text: Text, frame: protocol.Up, arrived_ms: float, steps: Steps[Round]) -> Steps[bytes]:
        """A reply to a frame for each commit."""
        item = next(steps, None)
        while item is not None:
            if isinstance(item, Block):
                item = steps.send((yield item))
                continue
            yield encode(text.reply(frame, item, arrived_ms))
            item = next(steps, None)

    def _advance(self, frame: protocol.Stepping, arrived_ms: float) -> Steps[bytes]:
        """Frames about a text that is decoded here step by step."""
        text = self._text(frame.text)
        if isinstance(frame, (protocol.Begin, protocol.Resume)):
            text.begin()
            request = self._checks.request(frame, text.options)
            self._demand_room(text, request)
            if isinstance(frame, protocol.Resume):
                yield self._resume(text, frame, request)
                return
            self._checks.demand_sendable(request, text.needs)
            commit = text.target.begin(request)
            text.is_open = True
            yield encode(text.reply(frame, commit, arrived_ms))
        else:
            self._demand_open(text)
            if isinstance(frame, protocol.Decode):
                yield from self._streamed(text, frame, arrived_ms)
                return
            self._checks.demand_draft(frame.tokens)
            if text.needs.trees or text.needs.features:
                raise RefusalError("a text that was opened for trees or hidden states is verified whole")
            text.trust(frame.tokens)

    def _open(self, frame: protocol.Open) -> None:
        if len(self._texts) >= MOST_TEXTS:
            raise RefusalError(f"an edge may open {MOST_TEXTS} texts, and has")
        try:
            options = Options(
                Decoding.model_validate(frame.decoding), Speculative.model_validate(frame.speculative)
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise RefusalError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        needs = Needs(frame.trees, frame.top_k, Features(*frame.features) if frame.features else None)
        target = self._host.target(options, frame.rolls_back, frame.draft, needs)
        self._texts[frame.text] = Text(target, options, needs)

    def _resume(self, text: Text, frame: protocol.Resume, request: Request) -> bytes:
        self._checks.demand_ids(frame.tokens)
        draws = frame.coins, frame.own, frame.proposals
        if not 0 < len(frame.tokens) < request.max_new_tokens or sum(draws) > MOST_DRAWS:
            raise RefusalError("a text that is resumed has begun, and has not ended")
        text.target.resume(request, frame.tokens, draws)
        text.is_open = True
        return encode(Done(frame.number))

    def _evidence(self, frame: protocol.Prove) -> Evidence:
        options = self._text(frame.text).options
        request = self._checks.request(frame, options)
        committed = [token for _, tokens, _ in frame.passes for token in tokens]
        for ids in (frame.tokens, frame.pair, committed):
            self._checks.demand_ids(ids)
        widest = max((drafted or 0) + is_tree for drafted, _, is_tree in frame.passes)
        follows = list(frame.tokens) == committed[: len(frame.tokens)] and len(frame.tokens) < len(committed)
        if not follows or len(committed) > request.max_new_tokens or widest > LONGEST_DRAFT:
            raise RefusalError("these passes do not lead to that position")
        if options.decoding.temperature > 0 and options.speculative.verification != "coupled":
            raise RefusalError("tokens that are drawn have no ties")
        return self._host.model.evidence(options, request, frame.tokens, frame.passes, frame.pair)

    def _recomputed(self, frame: protocol.Recompute) -> Recomputed:
        options = self._text(frame.text).options
        request = self._checks.request(frame, options)
        self._checks.demand_ids(frame.tokens)
        if not 0 < len(frame.tokens) <= request.max_new_tokens:
            raise RefusalError("this is no text of that budget")
        return self._host.model.recomputed(options, request, frame.tokens)

    def _text(self, number: int) -> Text:
        if number not in self._texts:
            raise RefusalError(f"text {number} was not opened, or was lost to an error")
        return self._texts[number]

    def _demand_open(self, text: Text) -> None:
        if not text.is_open:
            raise RefusalError("the text has not begun, or has ended")

    def _demand_room(self, text: Text, request: Request) -> None:
        """Bound the memory that one edge can fill; what has ended holds none."""
        room = len(request.prompt_ids) + request.max_new_tokens
        held = sum(other.room for other in self._texts.values())
        most = MOST_CONTEXTS * (self._host.model.context_length or MOST_TOKENS)
        if held + room > most:
            raise RefusalError(f"an edge's open texts may hold {most} tokens, and this would be {held + room}")
        text.room = room
