"""Maps of the fastest, the cheapest and the greenest method, and which of two drafts each objective wants.

    python tests/perf/cost_maps.py --folder maps

Makes a trace of the default pair, and one with an eight-bit copy of its target as the draft (kept where they
are there), and replays them with the two tables of docs/results/cost-tables. All that it prints and draws is
modelled: acceptance is that of the traces, time, energy and money are those of the tables. The small draft is
taken to be three times as fast as the table's, as 0.5B weights are read three times as fast as 1.5B.

Writes cost-maps.svg, .png, .pdf and .csv, and prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from specbench.forecast.acceptance_trace import read_trace
from specbench.forecast.grid import Row, grid
from specbench.forecast.known import of_trace
from specbench.forecast.objectives import FASTEST, LEAST, Choices, choices
from specbench.forecast.traced_drafter import texts_of
from specbench.forecast.variants import variants
from specbench.profile.cost_table import Costs, read_costs
from specbench.render.modelled import ALONE, choice_figure, disagreement, method_name
from specbench.render.report.documents import markdown_table
from specbench.render.report.inks import Ink, alt, legend_of, of_methods
from specbench.render.report.marks import Drawing, data, side_by_side, told_by
from specbench.render.report.pictures import write_files
from specbench.render.report.tabular import Table
from specbench.results.records import CONTROL

TABLES = Path(__file__).parents[2] / "docs" / "results" / "cost-tables"
EDGES = {"laptop": "laptop-a100.yaml", "phone": "phone-a100.yaml"}
SMALL, LARGE = "small (distilled)", "large (8-bit copy)"
DRAFTS = {SMALL: ("default", 3.0), LARGE: ("quantized_edge", 1.0)}
"""By name, the profile of its trace, and its speed beside the table's draft."""
METHODS = ("speculative", "speculative_pipelined", "speculative_colocated")
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
RTTS = [0.0, 10.0, 20.0, 50.0, 100.0, 200.0]
AGREEMENTS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.97]
WANTED: dict[str, Callable[[Row], float | None]] = {
    FASTEST: lambda row: row.ms_per_token,
    "cheapest": lambda row: row.cost_per_million,
    "fewest tokens read": lambda row: (row.draft_length + 1) / row.acceptance_length,
    "greenest": lambda row: row.joules_per_token,
    "greenest edge": lambda row: row.edge_joules_per_token,
}
"""What a draft may be wanted for: tokens read are those that the target reads for each that it commits."""
SHARED: dict[str, dict[str, list[object]]] = {"a shared cloud": {}, "a cloud for one edge": {"clients": [1]}}
UNITS = {FASTEST: "ms (modelled)", "cheapest": "USD (modelled)", "greenest": "J (modelled)"}
TILE_PX, ASIDE_PX = 40, 70


def trace_of(folder: Path, profile: str, limit: int) -> Path:
    """A trace of a profile's pair; kept where it is there."""
    path = folder / f"{profile}.trace.json"
    if not path.exists():
        words = ["trace", "--profile", profile, "--set", f"workload.limit={limit}", "--out", str(path)]
        subprocess.run([sys.executable, "-m", "specbench", *words], check=True, stdout=sys.stderr)
    return path


def with_draft(costs: Costs, speed: float) -> Costs:
    """A table whose draft is so many times as fast, wherever it runs."""
    there_ms = costs.colocated_step_ms
    return costs.with_values(
        {"draft.speed": speed, **({"colocated_step_ms": there_ms / speed} if there_ms else {})}
    )


def mapped(trace: Path, costs: Costs) -> list[Row]:
    """The methods over round trip and agreement; the agreement is imposed, so it is approximate."""
    read = read_trace(trace)
    over: dict[str, list[object]] = {"agreement": [*AGREEMENTS], "link.rtt_ms": [*RTTS]}
    return list(grid(variants(texts_of(read), read.texts, over, read.profile), costs, METHODS, LENGTHS, over))


def drafters(traces: dict[str, Path], costs: Costs, over: dict[str, list[object]]) -> Iterator[tuple[str, ...]]:
    """A line a round trip: the draft and length that each objective wants, beside the cloud alone."""
    conditions: dict[str, list[object]] = {"link.rtt_ms": [*RTTS], **over}
    drafted: dict[object, dict[tuple[str, object], Row]] = {}
    alone: dict[object, Row] = {}
    for draft, path in traces.items():
        table = with_draft(costs, DRAFTS[draft][1])
        for row in grid(texts_of(read_trace(path)), table, ["speculative"], LENGTHS, conditions):
            rtt_ms = row.condition["link.rtt_ms"]
            if row.method == CONTROL:
                alone[rtt_ms] = row
            else:
                drafted.setdefault(rtt_ms, {})[draft, row.draft_length] = row
    for rtt_ms, rows in drafted.items():
        cells = []
        for name, wanted in WANTED.items():
            (draft, length), least = min(
                ((key, wanted(row)) for key, row in rows.items()), key=lambda each: each[1]
            )
            beside = 1.0 if name == "fewest tokens read" else wanted(alone[rtt_ms])
            cells.append(f"{draft.partition(' ')[0]} at {length}, {least / beside:.2f}")
        yield (f"{rtt_ms:g}", *cells)


def places(edge: str, found: Sequence[Choices]) -> Iterator[dict]:
    """A tile for each objective under each condition."""
    for each in found:
        for objective in (FASTEST, *LEAST):
            choice = each.known.get(objective)
            if choice:
                yield {
                    "panel": f"{edge}: {objective}, {UNITS[objective]}",
                    "rtt": f"{each.condition['link.rtt_ms']:g}",
                    "agreement": f"{each.condition['agreement']:g}",
                    "method": method_name(choice),
                    "figure": choice_figure(choice, objective).partition(" ")[0],
                    "label": f"{edge}, {objective}: {method_name(choice)}",
                }


def chart(tiles: Sequence[dict]) -> Drawing:
    """Three panels an edge, side by side."""
    names = [ALONE, *METHODS]
    looks = of_methods([CONTROL, *METHODS], CONTROL)
    colors = [looks[CONTROL][0], *(looks[method][0] for method in METHODS)]

    def draw(ink: Ink, width: int) -> object:
        scale = alt.Scale(domain=names, range=[ink[color] for color in colors])
        panels = {}
        for panel in dict.fromkeys(tile["panel"] for tile in tiles):
            base = alt.Chart(data([tile for tile in tiles if tile["panel"] == panel])).encode(
                x=alt.X("rtt:N", sort=[f"{rtt:g}" for rtt in RTTS], title="round trip (ms)",
                        axis=alt.Axis(labelAngle=0, ticks=False)),
                y=alt.Y("agreement:N", sort=[f"{each:g}" for each in reversed(AGREEMENTS)],
                        title="agreement", axis=alt.Axis(ticks=False)),
            )  # fmt: skip
            panels[panel] = alt.layer(
                base.mark_rect(stroke=ink["grid"], opacity=0.6).encode(
                    color=alt.Color("method:N", scale=scale, title=None, legend=legend_of(width, opacity=0.6)),
                    description="label:N",
                ),
                base.mark_text(color=ink["ink"], fontSize=9).encode(text="figure:N"),
            ).properties(height=TILE_PX * len(AGREEMENTS) / 1.5)
        return side_by_side(panels, ink, width, 3, aside=ASIDE_PX)

    title = "Modelled: fastest (ms), cheapest (USD a million tokens) and greenest (J a token) method"
    return Drawing("cost-maps", title, told_by(tiles), draw, tuple(tiles))


def main() -> None:
    """Make the traces that are missing, replay, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=12)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    traces = {draft: trace_of(asked.folder, profile, asked.limit) for draft, (profile, _) in DRAFTS.items()}
    for draft, path in traces.items():
        known = of_trace(read_trace(path))
        print(f"{draft}: agreement {known.survival.mean:.3f}, {len(known.texts)} texts")
    tiles: list[dict] = []
    for edge, name in EDGES.items():
        costs = read_costs(TABLES / name)
        for who, over in SHARED.items():
            found = tuple(drafters(traces, costs, over))
            print("\n".join(markdown_table(Table(f"{edge}, {who}", ("round trip ms", *WANTED), found))))
        rows = mapped(traces[SMALL], costs)
        print(f"{edge}: {disagreement(rows)}\n")
        tiles += places(edge, choices(rows))
    for path in write_files([chart(tiles)], asked.folder):
        print(path)


if __name__ == "__main__":
    main()
