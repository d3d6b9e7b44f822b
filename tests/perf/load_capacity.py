"""How many edges one server sustains at one objective, with passes shared and not: the headline of issue 8.

    python tests/perf/load_capacity.py [--profile default] [--set engine.kind=compiled] [--objective-tpot-ms MS]
        [--times 6] [--most 64] [--sessions 16] [--wait-ms 5] [--tokens 20] [--edges 1,2,4,8,16] [--out FILE]

Makes an agreement trace, then starts two servers one after the other, one that gives every text passes of its
own and one whose passes up to 16 texts share. For each way to serve (edges draft, the cloud alone, co-located
drafting) it doubles the edges until one of them misses the objective, and then bisects: the most edges that all
keep to it. Edges ask again as soon as they are answered, two requests each. The objective is six times what a
lone edge gets of the first server decoding alone, unless given. With --edges the tables of these counts come
too, with 32 requests each, and a proof of every text that differs.
About eight minutes on two cores with the default pair, and as many more with five counts; compiling comes on
top, the first time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from specbench.benchmark.preparation import prepare
from specbench.engine.threads import spin_briefly
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.render import console
from specbench.render.load import load_table
from specbench.results.records import CONTROL as ALONE
from specbench.serving_load.departures import departures
from specbench.serving_load.edges import COLOCATED, lone_tpot_ms, measure, measure_one, schedule
from specbench.serving_load.figures import capacity, load_row
from specbench.serving_load.load import OWN_CONNECTIONS
from specbench.serving_load.recorded import edges_of

EDGE = "speculative"
WAYS = (EDGE, ALONE, COLOCATED)
REQUESTS = 32  # of a table


class Bench:
    """One server, driven by as many edges as are asked for."""

    def __init__(self, prepared, prompts, drafts):
        self.prepared, self._prompts, self._drafts = prepared, prompts, drafts
        self._known = {}

    def lone_ms(self):
        """The time per token of a lone edge, of the server decoding alone."""
        asked = schedule(self.prepared, 1, 1, None, self._prompts)
        return lone_tpot_ms(self.prepared, asked, self._drafts, discover(()).get(ALONE))

    def most(self, way, objective_ms, limit):
        """The most edges of which all keep to the objective; the server's limit where no count fails."""
        passed, failed = 0, None
        while failed is None and passed < limit:
            edges = min(2 * passed or 1, limit)
            passed, failed = (edges, None) if self._keeps(way, edges, objective_ms) else (passed, edges)
        while failed is not None and failed - passed > 1:
            edges = (passed + failed) // 2
            passed, failed = (edges, failed) if self._keeps(way, edges, objective_ms) else (passed, edges)
        return passed

    def _keeps(self, way, edges, objective_ms):
        began = time.monotonic()
        row, _ = self.load(way, edges, objective_ms)
        median_ms = row.tpot_ms.get("p50")
        print(
            f"  {way}, {edges} edges: {row.within} within, {row.tokens_per_s:.0f} tokens a second, "
            + (f"median {median_ms:.0f} ms a token, " if median_ms else "")
            + f"{row.texts_per_pass:.1f} texts a pass; {time.monotonic() - began:.0f} s",
            flush=True,
        )
        return row.within == edges

    def load(self, way, edges, objective_ms):
        """What so many edges saw, measured once."""
        if (way, edges) not in self._known:
            asked = schedule(self.prepared, edges, 2 * edges, None, self._prompts)
            answers = measure_one(self.prepared, edges, asked, self._drafts, discover(()).get(way))
            self._known[way, edges] = load_row(way, answers, objective_ms, None), answers
        return self._known[way, edges]

    def theory(self, most, objective_ms):
        """The prediction, and what the server's own times say, each way at the count that it sustains."""
        if not (most[EDGE] and most[COLOCATED]):
            return None
        at_edge, _ = self.load(EDGE, most[EDGE], objective_ms)
        colocated, answers = self.load(COLOCATED, most[COLOCATED], objective_ms)
        return capacity(at_edge, colocated, answers)

    def table(self, edges, objective_ms, title):
        """All ways side by side, with the texts that differ; printed, and returned by name."""
        asked = schedule(self.prepared, edges, max(REQUESTS, edges), None, self._prompts)
        answers = measure(self.prepared, edges, asked, self._drafts)
        departed = departures(self.prepared, asked, answers)
        rows = {way: load_row(way, answers[way], objective_ms, departed[way]) for way in WAYS}
        found = capacity(rows[EDGE], rows[COLOCATED], answers[COLOCATED])
        console.out.print(load_table(list(rows.values()), f"{edges} edges, {title}", objective_ms, found))
        return {"capacity": found and asdict(found), "rows": [asdict(row) for row in rows.values()]}


def main() -> None:
    """Run it."""
    spin_briefly()
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", dest="overrides")
    parser.add_argument("--objective-tpot-ms", type=float)
    parser.add_argument("--times", type=float, default=6.0)
    parser.add_argument("--most", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--wait-ms", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--edges", default="")
    parser.add_argument("--out", type=Path)
    asked_for = parser.parse_args()
    counts = [int(part) for part in asked_for.edges.split(",") if part]
    settings = asked_for.overrides or ["engine.kind=compiled"]
    settings = [*settings, f"workload.max_new_tokens={asked_for.tokens}"]
    trace = Path(tempfile.mkdtemp()) / "trace.json"
    words = [word for setting in settings for word in ("--set", setting)]
    subprocess.run(
        [sys.executable, "-m", "specbench", "trace", "--profile", asked_for.profile, "--out", trace, *words],
        check=True,
    )
    methods = [discover(()).get(way) for way in WAYS]
    objective_ms, results = asked_for.objective_tpot_ms, []
    for sessions in (1, asked_for.sessions):
        given = {
            "cloud.placement": "process",
            "cloud.batch": {"sessions": sessions, "wait_ms": asked_for.wait_ms},
        }
        prepared = prepare(load_profile(asked_for.profile, settings, given), methods)
        prepared.cloud.most_edges = max([asked_for.most, *counts]) + OWN_CONNECTIONS
        with closing(prepared.cloud):
            prompts, drafts, label = edges_of(prepared, trace)
            prepared.cloud.load()
            bench = Bench(prepared, prompts, drafts)
            objective_ms = objective_ms or asked_for.times * bench.lone_ms()
            title = f"at most {sessions} texts a pass"
            print(f"{title}: objective {objective_ms:.1f} ms a token; {label}", flush=True)
            tables = [bench.table(edges, objective_ms, f"{title}; {label}") for edges in counts]
            most = {way: bench.most(way, objective_ms, asked_for.most) for way in WAYS}
            theory = bench.theory(most, objective_ms)
        results.append(
            {
                "sessions": sessions,
                "most": most,
                "capacity": theory and asdict(theory),
                "tables": tables,
            }
        )
    print(
        f"the most edges of which all keep to {objective_ms:.1f} ms a token, {asked_for.most} being the limit"
    )
    for one in results:
        most, theory = one["most"], one["capacity"]
        print(
            f"at most {one['sessions']} texts a pass: {most}; "
            f"{EDGE} over {COLOCATED} {_ratio(most, COLOCATED)}, over {ALONE} {_ratio(most, ALONE)}"
        )
        if theory:
            print(
                f"  theory says {theory['predicted']:.2f} times the edges of {COLOCATED}, "
                f"the server's own times {theory['measured']:.2f}"
            )
    if asked_for.out:
        found = {"objective_tpot_ms": objective_ms, "most_tried": asked_for.most, "servers": results}
        asked_for.out.write_text(json.dumps(found, indent=2))


def _ratio(most: dict[str, int], way: str) -> str:
    return f"{most[EDGE] / most[way]:.2f}" if most[way] else "-"


if __name__ == "__main__":
    main()
