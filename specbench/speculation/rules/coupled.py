"""Accept what the target draws with noise that the draft shares."""

from __future__ import annotations

from specbench.speculation.rules import greedy
from specbench.speculation.rules.rule import Rule

RULE = Rule(greedy.judge, lossless=True, repeats_control=True, takes_trees=True)
