"""How many edges one server sustains, with passes shared and not: the figures of issue 8.

    python tests/perf/load_capacity.py [--profile default] [--set engine.kind=compiled] [--edges 1,2,4,8,16]
        [--requests 32] [--tokens 20] [--objective-tpot-ms MS] [--out FILE.json]

Makes an agreement trace, then starts two servers one after the other, one that gives every text passes of its
own and one whose passes up to 16 texts share, and drives each with 1, 2, 4, 8 and 16 edges that ask again as
soon as they are answered. The objective is twice what a lone edge gets of a server that decodes alone, unless
given.
About eight minutes on two cores with the default pair; compiling comes on top, the first time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from specbench.analysis.load import capacity, load_row, tpot_median
from specbench.bench.load import ALONE, COLOCATED, EDGE, WAYS, departures, measure, schedule
from specbench.bench.preparation import prepare
from specbench.cli.load import OWN_CONNECTIONS, drafts_of
from specbench.config import load_profile
from specbench.decoding.threads import spin_briefly
from specbench.registry import discover
from specbench.render import console
from specbench.render.load import load_table


def main() -> None:
    """Run it."""
    spin_briefly()
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", dest="overrides")
    parser.add_argument("--edges", default="1,2,4,8,16")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--wait-ms", type=float, default=5.0)
    parser.add_argument("--objective-tpot-ms", type=float)
    parser.add_argument("--out", type=Path)
    asked_for = parser.parse_args()
    counts = [int(part) for part in asked_for.edges.split(",")]
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
    for sessions in (1, max(counts)):
        given = {
            "cloud.placement": "process",
            "cloud.batch": {"sessions": sessions, "wait_ms": asked_for.wait_ms},
        }
        prepared = prepare(load_profile(asked_for.profile, settings, given), methods, console.note)
        prepared.cloud.most_edges = max(counts) + OWN_CONNECTIONS
        with closing(prepared.cloud):
            prompts, drafts, label = drafts_of(prepared, trace)
            prepared.cloud.load()
            for edges in counts:
                asked = schedule(prepared, edges, max(asked_for.requests, edges), None, prompts)
                answers = measure(prepared, edges, asked, drafts, lambda line: None)
                if objective_ms is None:
                    objective_ms = 2 * tpot_median(answers[ALONE])
                departed = departures(prepared, asked, answers, console.note)
                rows = {way: load_row(way, answers[way], objective_ms, departed[way]) for way in WAYS}
                found = capacity(rows[EDGE], rows[COLOCATED], answers[COLOCATED])
                title = f"{edges} edges, at most {sessions} texts a pass; {label}"
                console.out.print(load_table(list(rows.values()), title, objective_ms, found))
                results.append((sessions, edges, rows, found))
    for sessions in dict.fromkeys(one[0] for one in results):
        most = {
            way: max(
                [edges for known, edges, rows, _ in results if known == sessions and rows[way].within == edges],
                default=0,
            )
            for way in WAYS
        }
        print(
            f"at most {sessions} texts a pass: edges of which all keep to {objective_ms:.1f} ms a token: {most}"
            f"; {EDGE} over {COLOCATED} {_ratio(most, COLOCATED)}, over {ALONE} {_ratio(most, ALONE)}"
        )
    if asked_for.out:
        rows = [
            {
                "sessions": sessions,
                "capacity": found and asdict(found),
                "rows": [asdict(row) for row in known.values()],
            }
            for sessions, _, known, found in results
        ]
        asked_for.out.write_text(json.dumps({"objective_tpot_ms": objective_ms, "loads": rows}, indent=2))


def _ratio(most: dict[str, int], way: str) -> str:
    return f"{most[EDGE] / most[way]:.2f}" if most[way] else "-"


if __name__ == "__main__":
    main()
