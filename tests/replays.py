"""Traces, cost tables and prices that replays and plans are tested by."""

import random
from dataclasses import replace

from specbench.forecast.acceptance_trace import Trace, TracedText
from specbench.forecast.grid import Row
from specbench.forecast.traced_drafter import Text
from specbench.profile.cost_table import Costs
from specbench.results.records import CONTROL
from specbench.stats.prices import Prices

TABLE = {
    "draft": {"step_ms": 2.0, "read_ms": 0.5, "prefill_ms": {10: 5.0}},
    "target": {"verify_ms": {1: 20.0, 5: 24.0}, "prefill_ms": {10: 50.0, 110: 150.0}},
    "link": {"rtt_ms": 10.0},
    "bytes": {"per_message": 40, "up_per_token": 3.0, "down_per_token": 3.0},
}


def costs(verify_ms=None, **values):
    table = {**TABLE, "target": {**TABLE["target"], "verify_ms": verify_ms or TABLE["target"]["verify_ms"]}}
    return Costs.model_validate(table).with_values({key.replace("__", "."): values[key] for key in values})


def prices(verify_ms=None, **values):
    return Prices(costs(verify_ms, **values))


def drawn(alpha, tokens, seed=0):
    coin = random.Random(seed)
    return Text.of("".join("01"[coin.random() < alpha] for _ in range(tokens)), tokens, 10)


def ranked(alpha, tokens, seed=0):
    """A text of which the draft's likeliest tokens are known: the target's is the first with this chance."""
    coin, text = random.Random(seed), drawn(alpha, tokens, seed)
    likely = []
    for token, run in zip(text.ids, text.runs, strict=True):
        rank = 0 if run else min(15, int(coin.random() ** -2.5))
        others, logs = range(1000, 1016), (-0.7 * (at + 1) for at in range(16))
        likely.append(((*others[:rank], token, *others[rank:15]), tuple(logs)))
    return replace(text, likely=tuple(likely))


def trace(count=3, tokens=40):
    coin = random.Random(1)
    zeros = (0.0,) * tokens
    rows = []
    for index in range(count):
        bits = "".join("01"[coin.random() < 0.75] for _ in range(tokens))
        rows.append(
            TracedText(str(index), "c", 0, 0, 10, "x", tokens, tuple(range(tokens)), bits, zeros, zeros, zeros)
        )
    return Trace(True, "greedy", "", "", "", {}, {}, {}, {}, tuple(rows))


def line(*points, **condition):
    """A method's rows by round trip and speed-up, and the control's."""
    rows = []
    for rtt_ms, speedup in points:
        control = Row(CONTROL, None, {"link.rtt_ms": rtt_ms, **condition}, 1.0, 9.0, 9.0, 1.0, None, None, 0)
        rows += [control, replace(control, method="speculative", draft_length=3, speedup=speedup)]
    return rows
