"""What an edge may ask for: every frame about a text is checked here before a model sees it."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.cloud.server.host import Host
from specbench.cloud.transport import protocol
from specbench.cloud.transport.fields import MOST_TOKENS, MediaFields, obstacle_to, unpacked_parents
from specbench.errors import SpecbenchError
from specbench.models.media import Media
from specbench.profile import Options
from specbench.profile.decoding import LONGEST_DRAFT
from specbench.speculation.grammar import KINDS, Grammar, demand_llguidance
from specbench.speculation.proposal import MOST_NODES, DraftDistribution, Proposal
from specbench.speculation.request import Needs, Request
from specbench.speculation.rules import RULES
from specbench.speculation.stop_strings import StopStrings


class RefusalError(Exception):
    """A frame that is understood, and asks for what cannot be."""


class Checks:
    """Reads requests and drafts out of frames, by what the served model allows; refuses what cannot be."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def request(self, frame: protocol.Asked, options: Options) -> Request:
        """The request that a frame carries, for a text with these options."""
        self.demand_ids(frame.prompt_ids)
        if not frame.prompt_ids:
            raise RefusalError("the prompt is empty")
        length = len(frame.prompt_ids) + frame.max_new_tokens
        room = self._host.model.context_length or MOST_TOKENS
        if length > room:
            raise RefusalError(f"prompt and budget are {length} tokens, and the model was made for {room}")
        stops = StopStrings.of(options.decoding, self._host.model.tokenizer)
        stop_ids = frozenset(frame.stop_ids)
        grammar = self._grammar(frame.grammar, stop_ids) if frame.grammar else None
        media = self._media(frame.media, frame.prompt_ids) if frame.media else None
        return Request(frame.prompt_ids, frame.max_new_tokens, stop_ids, frame.seed, stops, grammar, media)

    def _media(self, fields: MediaFields, prompt_ids: Sequence[int]) -> Media:
        """The images and sounds of a request; what is in the files, the pass that reads them will tell."""
        drafted, files = fields
        if (engine := self._host.model.engine_kind) != "eager":
            raise RefusalError(
                f"the prompt shows an image or a sound, which the {engine} engine does not read; "
                "start the server with --set engine.kind=eager"
            )
        try:
            media = Media.of(self._host.model.media_reader, files, drafted)
        except SpecbenchError as error:
            raise RefusalError(f"{error.message}; {error.hint}") from error
        if missing := media.placeholder_ids.difference(prompt_ids):
            raise RefusalError(f"a file came for which the prompt has no token {min(missing)}")
        return media

    def _grammar(self, fields: tuple[str, str, str], stop_ids: frozenset[int]) -> Grammar:
        """The grammar of a request, compiled: both sides must read it alike."""
        kind, text, theirs = fields
        if kind not in KINDS:
            raise RefusalError(f"a grammar is one of {', '.join(KINDS)}, and no {kind}")
        try:
            if (ours := demand_llguidance()) != theirs:
                raise RefusalError(f"the edge reads grammars by llguidance {theirs}, and the server by {ours}")
            grammar = Grammar(kind, text, stop_ids, self._host.model.tokenizer)
            grammar.constraint()
        except SpecbenchError as error:
            raise RefusalError(f"{error.message}; {error.hint}") from error
        return grammar

    def demand_sendable(self, request: Request, needs: Needs) -> None:
        """Refuse a prompt whose hidden states no reply can hold."""
        if needs.features and (obstacle := obstacle_to(needs.features, len(request.prompt_ids))):
            raise RefusalError(
                f"{obstacle}: shorten the prompt, or send them in a narrower type (features: int8)"
            )

    def proposal(self, frame: protocol.Verify, options: Options, needs: Needs) -> Proposal:
        """The draft that a frame carries, as the rule of its text needs it."""
        self.demand_draft(frame.tokens)
        parents = self._parents(frame, needs) if isinstance(frame, protocol.VerifyTree) else None
        # A tree has a distribution for each parent, and a chain for each token.
        givers = tuple(dict.fromkeys(range(len(frame.tokens)) if parents is None else parents))
        needed = len(givers) if RULES[options.speculative.verification].proposes == "sample" else 0
        if len(frame.distributions) != needed:
            raise RefusalError(f"{len(frame.distributions)} draft distributions came, and {needed} are needed")
        try:
            distributions = tuple(DraftDistribution.unpacked(data) for data in frame.distributions)
            found = Proposal(frame.tokens, distributions, parents=parents, continues=frame.continues)
        except ValueError as error:
            raise RefusalError(str(error)) from error
        known = dict(zip(givers, distributions, strict=False))
        for token, giver in zip(found.tokens, parents or givers, strict=True) if needed else ():
            self.demand_ids([int(known[giver].token_ids[-1])])
            if not known[giver].probability(token):
                raise RefusalError(f"token {token} cannot have been drawn from its distribution")
        if found.continues and not found.tokens:
            raise RefusalError("a draft without tokens cannot be followed by another")
        return found

    def _parents(self, frame: protocol.VerifyTree, needs: Needs) -> tuple[int, ...]:
        """The parents of a tree that may come here; whether they make one is the proposal's business."""
        if not needs.trees:
            raise RefusalError("a tree came for a text that was opened for chains")
        if not 0 < len(frame.tokens) <= MOST_NODES:
            raise RefusalError(f"a tree of {len(frame.tokens)} tokens; 1 to {MOST_NODES} are read")
        return unpacked_parents(frame.parents)

    def demand_draft(self, tokens: Sequence[int]) -> None:
        """Refuse a draft that is too long, or has ids that are none."""
        if len(tokens) > LONGEST_DRAFT:
            raise RefusalError(f"a draft of {len(tokens)} tokens; at most {LONGEST_DRAFT} are read")
        self.demand_ids(tokens)

    def demand_ids(self, tokens: Sequence[int]) -> None:
        """Refuse ids outside the vocabulary."""
        size = self._host.facts.vocabulary_size
        if (highest := max(tokens, default=0)) >= size:
            raise RefusalError(f"token id {highest} is outside the vocabulary of {size}")
