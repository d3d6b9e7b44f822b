"""Answers that follow a grammar: whether they are whole, and what the grammar drafted by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbench.results.derived import Grammar, MethodSummary
from specbench.results.records import Generation


def grammar_figures(records: Sequence[Generation]) -> Grammar | None:
    """How a method did on answers that follow a grammar; `None` where none does."""
    bound = [record for record in records if record.complete is not None]
    if not bound:
        return None
    rounds = [part for record in bound for part in record.rounds if part.drafted and part.forced is not None]
    drafted = sum(part.drafted or 0 for part in rounds)
    forced = sum(part.forced or 0 for part in rounds)
    accepted = sum((part.accepted or 0) - (part.forced_accepted or 0) for part in rounds)
    return Grammar(
        answers=len(bound),
        complete=sum(bool(record.complete) for record in bound),
        forced_share=forced / drafted if drafted else None,
        acceptance_rate=accepted / (drafted - forced) if drafted > forced else None,
    )


def grammar_notes(rows: Sequence[MethodSummary]) -> Iterator[str]:
    """Notes on answers that end in the middle of their grammar, and on tokens that it drafted by itself."""
    for row in rows:
        if row.grammar is None:
            continue
        cut = row.grammar.answers - row.grammar.complete
        if cut:
            yield (
                f"{cut} of {row.grammar.answers} answers of {row.method} end in the middle of their grammar: "
                "the budget was spent (workload.max_new_tokens), or a stop string came"
            )
        if row.grammar.forced_share is not None:
            others = row.grammar.acceptance_rate
            told = "" if others is None else f"; of the others {others:.1%} were accepted"
            yield (
                f"the grammar forced {row.grammar.forced_share:.1%} of the tokens that {row.method} drafted, "
                f"and accept rate and length count them{told}"
            )
