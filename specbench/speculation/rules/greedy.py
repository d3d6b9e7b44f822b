"""Accept what the target itself would choose."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.speculation.rules.rule import Case, Rule
from specbench.speculation.rules.verdict import Verdict, chosen


def matching(
    drafted: Sequence[int], target_choices: Sequence[int], parents: Sequence[int] | None = None
) -> Verdict:
    """Accept while the draft equals the target's choice: `greedy` and `coupled`.

    Lossless whatever the draft, since only the target's choices are ever committed: its argmax (Leviathan
    et al. 2023, the temperature-zero case of algorithm 1), or its draw with noise that the draft shares
    (Daliri et al. 2024, "Coupling without Communication and Drafter-Invariant Speculative Decoding"). Of a
    tree the path is accepted that the target's choices make (SpecInfer, Miao et al. 2024).

    Args:
        drafted: the proposed ids, any number.
        target_choices: the target's choice at each drafted position and behind the last one, so one
            id more than `drafted`; as many where another proposal follows. Of a tree, the choice behind the
            committed tokens and behind each node.
        parents: of a tree, as of a `Proposal`.
    """
    if parents is None:
        accepted = 0
        while accepted < len(drafted) and drafted[accepted] == target_choices[accepted]:
            accepted += 1
        return chosen(accepted, target_choices)
    nodes = {place: node for node, place in enumerate(zip(parents, drafted, strict=True))}
    path: list[int] = []
    at = -1
    while (at, target_choices[at + 1]) in nodes:
        at = nodes[at, target_choices[at + 1]]
        path.append(at)
    return Verdict(len(path), target_choices[at + 1], tuple(path))


def judge(case: Case) -> Verdict:
    """`matching`, by the target's choices."""
    return matching(case.proposal.tokens, case.choices, case.proposal.parents)


RULE = Rule(judge, lossless=True, repeats_control=True, needs_greedy=True, takes_trees=True)
