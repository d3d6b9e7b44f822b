"""Which drafted tokens the target accepts: a module for each rule, by the name that the profile gives it.

The arithmetic is pure functions, with no model and no state; draws come in as numbers in [0, 1), so that equal
arguments give equal verdicts.
"""

from __future__ import annotations

from specbench.speculation.rules import block, coupled, greedy, one_hot, rank, rejection, typical
from specbench.speculation.rules.greedy import matching
from specbench.speculation.rules.rule import Rule
from specbench.speculation.rules.synthetic import synthetic
from specbench.speculation.rules.typical import entropy
from specbench.speculation.rules.verdict import Verdict

__all__ = ["RULES", "TREE_RULES", "Rule", "Verdict", "entropy", "matching", "synthetic"]

RULES = {
    "greedy": greedy.RULE,
    "coupled": coupled.RULE,
    "rejection": rejection.RULE,
    "block": block.RULE,
    "one_hot": one_hot.RULE,
    "rank": rank.RULE,
    "typical": typical.RULE,
}
"""By the name that `speculative.verification` gives them."""

TREE_RULES = frozenset(name for name, rule in RULES.items() if rule.takes_trees)
"""Those that can judge a tree."""
