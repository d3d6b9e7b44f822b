"""Texts that repeat one token or one short phrase: speeds on them say nothing about real texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from specbench.results.records import Generation

LEAST_TOKENS = 16  # fewer may be a name, a sum or a list
LONGEST_PHRASE = 8
TIMES = 3


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether all but the first quarter of a text is a phrase of at most eight tokens, three times or more."""
    tail = tokens[len(tokens) // 4 :]
    longest = min(LONGEST_PHRASE, len(tail) // TIMES)
    return len(tokens) >= LEAST_TOKENS and any(
        tail[period:] == tail[:-period] for period in range(1, longest + 1)
    )


def loop_warnings(groups: Iterable[tuple[str, Sequence[Generation]]]) -> Iterator[str]:
    """Warnings about rows whose texts are loops.

    Args:
        groups: a row's name and its records.
    """
    for name, records in groups:
        loops = [tokens for tokens in map(_said, records) if is_loop(tokens)]
        if loops:
            single = sum(len(set(tokens[len(tokens) // 4 :])) == 1 for tokens in loops)
            what = f"{single} of them one token" if 0 < single < len(loops) else "a phrase of a few tokens"
            what = "one token" if single == len(loops) else what
            yield (
                f"{len(loops)} of {len(records)} texts of {name} repeat themselves ({what}, over and over): "
                "drafts are accepted far more often there, so speed and acceptance say little about real texts"
            )


def loops(record: Generation) -> bool:
    """Whether a text is a loop."""
    return is_loop(_said(record))


def mostly_loops(records: Sequence[Generation]) -> bool:
    """Whether most of these texts are loops."""
    return 2 * sum(map(loops, records)) > len(records)


def _said(record: Generation) -> tuple[int, ...]:
    """A text without the stop token that ends it."""
    return record.tokens[:-1] if record.finish_reason == "stop" else record.tokens
