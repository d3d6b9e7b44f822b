"""Accept drafted tokens by chance, whatever they are: for measurements of time, and for nothing else.

vLLM has it as `rejection_sample_method: synthetic`, whose rates are those of all tokens up to a position, and
SGLang as `SGLANG_SIMULATE_ACC_LEN`, which fixes the mean length.
"""

from __future__ import annotations

from collections.abc import Sequence

from specbench.speculation.rules.rule import Case
from specbench.speculation.rules.verdict import Verdict, chosen


def synthetic(case: Case, chances: Sequence[float]) -> Verdict:
    """So many drafted tokens stand as coins say, and behind them the target's choice.

    Args:
        case: a chain; the pass over it has been computed.
        chances: by position, that a token stands given that those before it do; the last one goes on.
    """
    accepted = 0
    for coin in case.coins:
        if coin >= chances[min(accepted, len(chances) - 1)]:
            break
        accepted += 1
    return chosen(accepted, case.choices)
