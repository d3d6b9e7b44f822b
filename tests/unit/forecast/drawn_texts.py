"""Texts that are drawn by a chance of acceptance, and what they cost."""

import random

from specbench.forecast import serving
from specbench.forecast.replay import known_method, replay
from specbench.forecast.traced_drafter import Text
from specbench.profile.cost_table import Costs
from specbench.stats.prices import Prices

TABLE = {
    "draft": {"step_ms": 2.0, "read_ms": 0.5},
    "target": {"verify_ms": {1: 20.0, 5: 24.0, 9: 32.0}},
    "link": {"rtt_ms": 10.0, "uplink_mbps": 5.0, "downlink_mbps": 5.0},
    "round_ms": 0.3,
}


def prices(**values):
    table = Costs.model_validate(TABLE)
    return Prices(table.with_values({key.replace("__", "."): value for key, value in values.items()}))


def drawn(alpha, tokens=400, count=40):
    coin = random.Random(3)
    bits = ("".join("01"[coin.random() < alpha] for _ in range(tokens)) for _ in range(count))
    return [Text.of(each, tokens, 10) for each in bits]


def simulated(texts, table, method, draft_length, clients):
    work = serving.scripts(texts, table, known_method(method), draft_length)
    return serving.simulate(work, table, clients)


def replayed_ms(texts, table, method, draft_length):
    timed = replay(texts, table, method, draft_length)
    return sum(one.decode_ms for one in timed) / sum(one.tokens - 1 for one in timed)
