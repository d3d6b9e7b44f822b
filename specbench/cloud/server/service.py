"""The cloud's side of one connection: a frame in, frames out. It knows nothing of sockets."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from specbench.clock import now_ms
from specbench.cloud.server.host import Host
from specbench.cloud.transport import protocol
from specbench.cloud.transport.protocol import Committed, Done, ProtocolError, Refused, encode
from specbench.engine.batch import Steps, alone
from specbench.engine.session import Block
from specbench.errors import RanksLostError, SpecbenchError
from specbench.precision import switches
from specbench.profile import Decoding, Options, Speculative
from specbench.results.records import Round
from specbench.speculation.proposal import DraftDistribution, Proposal
from specbench.speculation.recomputation import Recomputed
from specbench.speculation.request import Request
from specbench.speculation.rules import RULES
from specbench.speculation.target import LocalTarget
from specbench.speculation.ties import Evidence

MOST_TEXTS = 64
MOST_CONTEXTS = 4  # that the texts of one edge may fill


class RefusalError(Exception):
    """A frame that is understood, and asks for what cannot be."""


class _Text:
    """A place where one text at a time is decoded."""

    def __init__(self, target: LocalTarget, options: Options) -> None:
        self.target = target
        self.options = options
        self.is_open = False
        self.room = 0
        """Tokens that its caches were made for."""

    def end(self) -> None:
        """Keep the place and free its caches."""
        self.is_open, self.room = False, 0
        self.target.release()


class Service:
    """Answers the frames of one edge, in order; holds its targets, and so its caches."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._texts: dict[int, _Text] = {}
        self.last = 0
        self.is_over = False
        self.refusal: str | None = None

    @property
    def is_decoding(self) -> bool:
        """Whether a text has begun and not ended, so that its next step may come at any time."""
        return any(text.is_open for text in list(self._texts.values()))

    def handle(self, message: bytes, arrived_ms: float) -> Iterator[bytes]:
        """As `steps`, every pass a text's own."""
        return alone(self.steps(message, arrived_ms))

    def steps(self, message: bytes, arrived_ms: float) -> Steps[bytes]:
        """The replies to one frame, and before some of them a block to be read. Never raises.

        Args:
            arrived_ms: when the frame arrived, by `now_ms`.
        """
        number = self.last + 1
        try:
            frame = protocol.decode_up(message)
            self._demand_next(frame)
        except ProtocolError as error:
            self.is_over, self.refusal = True, str(error)
            yield encode(Refused(number, str(error), True))
            return
        self.last = number
        try:
            yield from self._replies(frame, arrived_ms)
        except RefusalError as error:
            yield encode(Refused(number, str(error), False))
        except RanksLostError as error:
            self.is_over, self.refusal = True, error.message
            yield encode(Refused(number, error.message, True))
        except SpecbenchError as error:
            if (text := self._texts.get(getattr(frame, "text", -1))) is not None:
                text.end()  # nobody waits for its next step
            way_out = f"; {error.hint}" if error.hint else ""
            yield encode(Refused(number, error.message + way_out, False))
        except Exception as error:
            # The cache may be half-written, so the text is lost; every other one goes on.
            self._texts.pop(getattr(frame, "text", -1), None)
            traceback.print_exc(file=sys.stderr)
            yield encode(Refused(number, f"the cloud failed: {type(error).__name__}: {error}", False))

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

    def _replies(self, frame: protocol.Up, arrived_ms: float) -> Steps[bytes]:
        if isinstance(frame, protocol.Hello):
            yield encode(protocol.Welcome(frame.number, protocol.VERSION, self._host.facts))
        elif isinstance(frame, protocol.Open):
            self._open(frame)
            if frame.draft is None:
                yield encode(Done(frame.number))
            else:
                yield encode(protocol.Opened(frame.number, *self._host.drafting()))
        elif isinstance(frame, protocol.AskAudit):
            yield encode(protocol.Audited(frame.number, self._host.model.audit(), switches.read()))
        elif isinstance(frame, protocol.AskSpeed):
            yield encode(protocol.Speed(frame.number, self._host.model.ceiling().bytes_per_second))
        elif isinstance(frame, protocol.Stop):
            yield encode(Done(frame.number))
        elif isinstance(frame, protocol.Close):
            self.close()
            self.is_over = True
            yield encode(Done(frame.number))
        elif isinstance(frame, protocol.Prove):
            yield encode(protocol.Proven(frame.number, self._evidence(frame)))
        elif isinstance(frame, protocol.Recompute):
            yield encode(protocol.Held(frame.number, self._recomputed(frame)))
        elif isinstance(frame, protocol.Generate):
            text = self._text(frame.text)
            cached = len(frame.prompt_ids) - 1
            for commit in self._host.generate(self._request(frame), text.options.decoding):
                cached += len(commit.tokens)
                yield encode(_committed(frame, commit, arrived_ms, cached))
        else:
            yield from self._advance(frame, arrived_ms)

    def _advance(self, frame: protocol.Up, arrived_ms: float) -> Steps[bytes]:
        """Frames about a text that is decoded here step by step."""
        text = self._text(frame.text)
        if isinstance(frame, (protocol.Begin, protocol.Resume)):
            text.end()
            request = self._request(frame)
            self._demand_room(text, request)
            if isinstance(frame, protocol.Resume):
                self._resume(text, frame, request)
                yield encode(Done(frame.number))
                return
            steps: Iterator[Block | Round] = iter([text.target.begin(request)])
            text.is_open = True
        else:
            self._demand_open(text)
            if isinstance(frame, protocol.Decode):
                steps = text.target.decoding()
            elif isinstance(frame, protocol.Verify):
                steps = text.target.verifying(self._proposal(frame, text.options))
            else:
                self._demand_draft(frame.tokens)
                if text.target.trust(frame.tokens).finish_reason:
                    text.end()
                return
        item = next(steps, None)
        while item is not None:
            if isinstance(item, Block):
                item = steps.send((yield item))
                continue
            target = text.target
            committed = _committed(frame, item, arrived_ms, target.cached_length, target.draws)
            if item.finish_reason:
                text.end()
            yield encode(committed)
            item = next(steps, None)

    def _open(self, frame: protocol.Open) -> None:
        if len(self._texts) >= MOST_TEXTS:
            raise RefusalError(f"an edge may open {MOST_TEXTS} texts, and has")
        try:
            options = Options(
                Decoding.model_validate_json(frame.decoding), Speculative.model_validate_json(frame.speculative)
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise RefusalError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        target = self._host.target(options, frame.rolls_back, frame.draft)
        self._texts[frame.text] = _Text(target, options)

    def _resume(self, text: _Text, frame: protocol.Resume, request: Request) -> None:
        self._demand_ids(frame.tokens)
        draws = frame.coins, frame.own, frame.proposals
        if not 0 < len(frame.tokens) < request.max_new_tokens or sum(draws) > protocol.MOST_DRAWS:
            raise RefusalError("a text that is resumed has begun, and has not ended")
        text.target.resume(request, frame.tokens, draws)
        text.is_open = True

    def _evidence(self, frame: protocol.Prove) -> Evidence:
        options, request = self._text(frame.text).options, self._request(frame)
        committed = [token for _, tokens in frame.passes for token in tokens]
        for ids in (frame.tokens, frame.pair, committed):
            self._demand_ids(ids)
        widest = max(drafted or 0 for drafted, _ in frame.passes)
        follows = list(frame.tokens) == committed[: len(frame.tokens)] and len(frame.tokens) < len(committed)
        if not follows or len(committed) > request.max_new_tokens or widest > protocol.LONGEST_DRAFT:
            raise RefusalError("these passes do not lead to that position")
        if options.decoding.temperature > 0 and options.speculative.verification != "coupled":
            raise RefusalError("tokens that are drawn have no ties")
        return self._host.model.evidence(options, request, frame.tokens, frame.passes, frame.pair)

    def _recomputed(self, frame: protocol.Recompute) -> Recomputed:
        options, request = self._text(frame.text).options, self._request(frame)
        self._demand_ids(frame.tokens)
        if not 0 < len(frame.tokens) <= request.max_new_tokens:
            raise RefusalError("this is no text of that budget")
        return self._host.model.recomputed(options, request, frame.tokens)

    def _text(self, number: int) -> _Text:
        if number not in self._texts:
            raise RefusalError(f"text {number} was not opened, or was lost to an error")
        return self._texts[number]

    def _demand_open(self, text: _Text) -> None:
        if not text.is_open:
            raise RefusalError("the text has not begun, or has ended")

    def _request(self, frame: protocol.Asked) -> Request:
        self._demand_ids(frame.prompt_ids)
        if not frame.prompt_ids:
            raise RefusalError("the prompt is empty")
        length = len(frame.prompt_ids) + frame.max_new_tokens
        room = self._host.model.context_length or protocol.MOST_TOKENS
        if length > room:
            raise RefusalError(f"prompt and budget are {length} tokens, and the model was made for {room}")
        return Request(frame.prompt_ids, frame.max_new_tokens, frozenset(frame.stop_ids), frame.seed)

    def _demand_room(self, text: _Text, request: Request) -> None:
        """Bound the memory that one edge can fill; what has ended holds none."""
        room = len(request.prompt_ids) + request.max_new_tokens
        held = sum(other.room for other in self._texts.values())
        most = MOST_CONTEXTS * (self._host.model.context_length or protocol.MOST_TOKENS)
        if held + room > most:
            raise RefusalError(f"an edge's open texts may hold {most} tokens, and this would be {held + room}")
        text.room = room

    def _proposal(self, frame: protocol.Verify, options: Options) -> Proposal:
        self._demand_draft(frame.tokens)
        needed = len(frame.tokens) if RULES[options.speculative.verification].proposes == "sample" else 0
        if len(frame.distributions) != needed:
            raise RefusalError(f"{len(frame.distributions)} draft distributions came, and {needed} are needed")
        try:
            distributions = tuple(DraftDistribution.unpacked(data) for data in frame.distributions)
        except ValueError as error:
            raise RefusalError(str(error)) from error
        for token, distribution in zip(frame.tokens, distributions, strict=False):
            self._demand_ids([int(distribution.token_ids[-1])])
            if not distribution.probability(token):
                raise RefusalError(f"token {token} cannot have been drawn from its distribution")
        return Proposal(frame.tokens, distributions)

    def _demand_draft(self, tokens: Sequence[int]) -> None:
        if len(tokens) > protocol.LONGEST_DRAFT:
            raise RefusalError(f"a draft of {len(tokens)} tokens; at most {protocol.LONGEST_DRAFT} are read")
        self._demand_ids(tokens)

    def _demand_ids(self, tokens: Sequence[int]) -> None:
        size = self._host.facts.vocabulary_size
        if (highest := max(tokens, default=0)) >= size:
            raise RefusalError(f"token id {highest} is outside the vocabulary of {size}")


def _committed(
    frame: protocol.Up, commit: Round, arrived_ms: float, cached: int, draws: tuple[int, int, int] = (0, 0, 0)
) -> Committed:
    return Committed(
        frame.number,
        commit.tokens,
        commit.accepted or 0,
        protocol.FINISH_REASONS.index(commit.finish_reason),
        round((commit.verify_ms or 0.0) * 1000),
        round((now_ms() - arrived_ms) * 1000),
        cached,
        *draws,
        commit.drafted,
        round((commit.draft_ms or 0.0) * 1000),
        commit.shared or 1,
        round((commit.pass_ms or 0.0) * 1000),
    )
