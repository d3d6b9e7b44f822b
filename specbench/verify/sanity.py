"""What makes a speed or an identity worthless, whatever the figures say."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.servers.answers import Completion
from specbench.servers.base import Server
from specbench.verify import causes
from specbench.verify.identity import first_difference

Pair = tuple[int, Completion, Completion]
"""Ids of the prompt that was sent (0 where a text was), the reference's answer, and the server's."""


def oddities(server: Server, reference: Server, pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """What is wrong with the server's answers, and what to know of them."""
    faults, warnings = [], []
    count = len(pairs)
    looping, ours_alone = 0, 0
    for _, theirs, ours in pairs:
        if causes.loops(ours):
            looping += 1
            ours_alone += not causes.loops(theirs)
    if ours_alone:
        faults.append(
            f"{ours_alone} of {count} answers of {server.url} repeat a phrase over and over, and the "
            "reference's do not"
        )
    elif looping:
        warnings.append(
            f"{looping} of {count} answers repeat a phrase over and over: drafts are accepted far more often "
            "there, so speed and acceptance say little of real texts"
        )
    empty = sum(not ours.text.strip() and not theirs_is_empty(theirs) for _, theirs, ours in pairs)
    if empty:
        faults.append(f"{empty} of {count} answers of {server.url} are empty, and the reference's are not")
    reasons = {
        (theirs.finish_reason, ours.finish_reason)
        for _, theirs, ours in pairs
        if first_difference(theirs, ours) is None and theirs.finish_reason != ours.finish_reason
    }
    for theirs_reason, ours_reason in sorted(reasons, key=str):
        faults.append(
            f"the same text ends for another reason: {ours_reason} by {server.url}, {theirs_reason} by the "
            "reference"
        )
    faults += _prompt_counts(server, reference, pairs)
    return faults, warnings


def theirs_is_empty(completion: Completion) -> bool:
    """Whether nothing readable was said."""
    return not completion.text.strip()


def _prompt_counts(server: Server, reference: Server, pairs: Sequence[Pair]) -> list[str]:
    """Servers that count other prompt tokens than were sent, or than the other counts."""
    found = []
    for who, counts in (
        (server, [(sent, ours.prompt_tokens) for sent, _, ours in pairs]),
        (reference, [(sent, theirs.prompt_tokens) for sent, theirs, _ in pairs]),
    ):
        others = [(sent, read) for sent, read in counts if sent and read is not None and sent != read]
        if others:
            sent, read = others[0]
            found.append(
                f"{who.url} counts {read} prompt tokens where {sent} were sent, in {len(others)} of "
                f"{len(pairs)} prompts" + (" (another BOS?)" if read == sent + 1 else "")
            )
        if server is reference:
            return found
    unlike = [
        (theirs.prompt_tokens, ours.prompt_tokens)
        for sent, theirs, ours in pairs
        if not sent
        and None not in (theirs.prompt_tokens, ours.prompt_tokens)
        and theirs.prompt_tokens != ours.prompt_tokens
    ]
    if unlike:
        theirs_count, ours_count = unlike[0]
        found.append(
            f"{server.url} makes {ours_count} prompt tokens of a text and the reference {theirs_count}, in "
            f"{len(unlike)} of {len(pairs)} prompts (double BOS, or a chat template?)"
        )
    return found
