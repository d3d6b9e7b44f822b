"""Runs made by hand: a control and a method, paired prompt by prompt."""

import numpy as np
from builders import generation, manifest

from specbench.results.records import Round, Run
from specbench.stats.comparison import CONTROL, compare

PROFILE = {
    "edge": {"dtype": "float32"},
    "cloud": {"dtype": "float32"},
    "engine": {"kind": "eager"},
    "workload": {"max_new_tokens": 8, "repeats": 1, "seed": 0},
    "decoding": {"temperature": 0.0},
    "speculative": {"draft_length": 4, "verification": "greedy"},
    "precision": {"parity": "edge_cloud"},
}


def request(method, prompt_id, step_ms, tokens=9, **fields):
    arrivals = tuple(100 + step_ms * index for index in range(tokens))
    return generation(prompt_id, tuple(range(tokens)), method=method, arrival_ms=arrivals, **fields)


def pair(questions, factor, jitter=0.0, categories=1, method="m"):
    """A control of 40 ms a token and a method `factor` times as fast, on so many questions."""
    rng = np.random.default_rng(questions)
    for question in range(questions):
        fields = {"category": f"c{question % categories}"}
        yield request(CONTROL, str(question), 40.0, **fields)
        yield request(method, str(question), 40.0 / factor * np.exp(jitter * rng.standard_normal()), **fields)


def run(records, run_id="r1", **changes):
    records = tuple(records)
    names = tuple(dict.fromkeys(record.method for record in records))
    values = {
        "methods": names,
        "lossless": dict.fromkeys(names, True),
        "profile": PROFILE,
        "status": "finished",
    }
    return Run(manifest(run_id, **{**values, **changes}), records)


def row(runs, name="m", **options):
    return next(row for row in compare(runs, **options).methods if row.method == name)


def drafting(*parts):
    rounds = (Round(tokens=(1,)), *(Round(tokens=(2,) * n, drafted=d, accepted=a) for d, a, n in parts))
    return generation(rounds=rounds, arrival_ms=tuple(range(len(rounds))))
