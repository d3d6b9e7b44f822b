"""Accept drafted tokens by chance, whatever they are: for measurements of time, and for nothing else.

vLLM has it as `rejection_sample_method: synthetic`, whose rates are those of all tokens up to a position, and
SGLang as `SGLANG_SIMULATE_ACC_LEN`, which fixes the mean length.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from specbench.speculation.rules.rule import Case
from specbench.speculation.rules.verdict import Verdict, chosen


def synthetic(case: Case, chances: Sequence[float]) -> Verdict:
    """So many drafted tokens stand as coins say, and behind them the target's choice.

    Args:
        case: a chain; the pass over it has been computed. A token that the target cannot say, such as a stop
            token before `min_new_tokens`, stands by no chance.
        chances: by position, that a token stands given that those before it do; the last one goes on.
    """
    accepted = 0
    for coin, token, row in zip(case.coins, case.proposal.tokens, case.logits, strict=False):
        if coin >= chances[min(accepted, len(chances) - 1)] or row[token] == -inf:
            break
        accepted += 1
    return chosen(accepted, case.choices)
