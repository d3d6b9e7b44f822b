"""What a target reads for the verdicts on proposals, and which rows of it judge them."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.engine.session import Block, KVSession
from specbench.speculation.proposal import Proposal


def block_of(session: KVSession, committed: Sequence[int], *proposals: Proposal) -> Block:
    """The committed tokens that the cache lacks, and proposals that follow each other; a tree comes alone."""
    session.settle(len(committed))
    drafted = [token for proposal in proposals for token in proposal.tokens]
    unread = committed[session.length :]
    tokens = [*unread, *(drafted[:-1] if proposals[-1].continues else drafted)]
    first, parents = len(unread), proposals[0].parents
    if not parents:
        return Block(session, tokens)
    return Block(session, tokens, (*range(-1, first - 1), *(first + parent for parent in parents)))


def rows_of(*proposals: Proposal) -> int:
    """How many rows of logits, the last ones of a block, judge proposals that follow each other."""
    return sum(map(len, proposals)) + (not proposals[-1].continues)
