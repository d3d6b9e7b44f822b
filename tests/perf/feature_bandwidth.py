"""Whether a draft is worth the bytes of the hidden states that it reads, by bandwidth and round trip.

    python tests/perf/feature_bandwidth.py --plain RUN --eagle RUN --folder features

Acceptance and the costs of this machine are those of two stored runs: `speculative` with a plain draft, and
`speculative_eagle`. The second table, laptop-7b.yaml of docs/results/cost-tables, is of hardware that is not
here. Links are modelled: what comes down per token is one set of hidden states, as `Features` counts them.
Every time is that of the best draft length. Links that are slower up than down are not tried.

Prints tables in Markdown, and writes feature-bandwidth.svg, .png, .pdf and .csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specbench.forecast.known import Known, known_from, of_chances
from specbench.forecast.mean_rounds import mean_round
from specbench.forecast.plan import alone_ms, break_even_rtt_ms
from specbench.forecast.replay import known_method
from specbench.profile.cost_table import Costs, read_costs
from specbench.render.report.documents import markdown_table
from specbench.render.report.inks import SHAPES, Ink, alt, by_name
from specbench.render.report.marks import Drawing, data, side_by_side, told_by
from specbench.render.report.pictures import write_files
from specbench.render.report.tabular import Table
from specbench.results.records import Run
from specbench.results.store import RunStore
from specbench.speculation.features import DTYPES, Features
from specbench.stats.measured_costs import run_costs
from specbench.stats.prices import Prices

TABLE = Path(__file__).parents[2] / "docs" / "results" / "cost-tables" / "laptop-7b.yaml"
HERE, SEVEN = "the default pair, measured costs", "a 7B target (table)"
PLAIN = "plain draft"
MBPS = (1.0, 10.0, 100.0)
RTTS = [0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0]
LENGTHS = range(1, 9)
PROMPT_TOKENS = 100
METHOD = known_method("speculative")


@dataclass(frozen=True)
class Draft:
    """A draft, what accepts of it, what it costs, and the bytes that each committed token brings it."""

    name: str
    known: Known
    costs: Costs
    token_bytes: int = 0

    def prices(self, mbps: float, rtt_ms: float = 0.0) -> Prices:
        """On a link of so many megabits each way."""
        down = 3.0 + self.token_bytes
        values = {
            "link.rtt_ms": rtt_ms, "link.uplink_mbps": mbps, "link.downlink_mbps": mbps,
            "bytes.down_per_token": down,
        }  # fmt: skip
        return Prices(self.costs.with_values(values))

    def speedup(self, mbps: float, rtt_ms: float) -> tuple[float, int]:
        """Over the cloud alone, which streams tokens without hidden states; and at which draft length."""
        took_ms, length = self.took_ms(mbps, rtt_ms)
        return self.alone_ms(mbps, rtt_ms) / took_ms, length

    def took_ms(self, mbps: float, rtt_ms: float) -> tuple[float, int]:
        """A token, at the best draft length."""
        prices = self.prices(mbps, rtt_ms)
        return min((mean_round(self.known, prices, METHOD, length).ms_per_token, length) for length in LENGTHS)

    def alone_ms(self, mbps: float, rtt_ms: float) -> float:
        """A token of the cloud alone."""
        return alone_ms(self.known, Draft("", self.known, self.costs).prices(mbps, rtt_ms))

    def break_even(self, mbps: float) -> str:
        """The farthest round trip at which some draft length is as fast as the cloud alone."""
        found = [
            rtt_ms
            for length in LENGTHS
            if (rtt_ms := break_even_rtt_ms(self.known, self.prices(mbps), METHOD, length)) is not None
        ]
        return f"{max(found):.0f} ms" if found else "nowhere"

    def prompt_s(self, mbps: float) -> float:
        """Seconds that the hidden states of a prompt take down, before anything can be drafted."""
        return PROMPT_TOKENS * self.token_bytes * 8 / (mbps * 1e6)


def drafts(plain: Draft, eagle: Draft, size: int, layers: int) -> Iterator[Draft]:
    """The plain one, and the other with each type of hidden states."""
    yield plain
    for dtype in DTYPES:
        features = Features(tuple(range(layers)), size, dtype)
        yield Draft(f"hidden states, {dtype}", eagle.known, eagle.costs, features.token_bytes)


def table_of(found: Sequence[Draft]) -> Table:
    """A line a draft and bandwidth."""
    lines = []
    for draft in found:
        for mbps in MBPS:
            speedups = [draft.speedup(mbps, rtt_ms) for rtt_ms in (0.0, 10.0, 20.0)]
            lines.append(
                (
                    draft.name, f"{draft.token_bytes:,}", f"{mbps:g}",
                    *(f"{times:.2f} at {length}" for times, length in speedups),
                    draft.break_even(mbps), f"{draft.prompt_s(mbps):.2f} s",
                )
            )  # fmt: skip
    heads = "draft", "bytes a token", "Mbit/s", "0 ms", "10 ms", "20 ms", "break-even", "100 prompt tokens"
    return Table("speed-up over the cloud alone at the best draft length", heads, tuple(lines))


def needed(plain: Draft, fed: Draft, mbps: float, rtt_ms: float) -> str:
    """The agreement that a fed draft needs to be as fast as the plain one."""
    goal, low, high = plain.speedup(mbps, rtt_ms)[0], 0.0, 1.0

    def reaches(agreement: float) -> bool:
        drawn = replace(fed, known=of_chances((agreement,), [METHOD]))
        return fed.alone_ms(mbps, rtt_ms) / drawn.took_ms(mbps, rtt_ms)[0] >= goal

    if not reaches(high):
        return "none"
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return f"{high:.2f}"


def needs(found: Sequence[Draft]) -> Table:
    """A line a type of hidden states: what agreement would pay for them."""
    plain, *fed = found
    heads = tuple(f"{mbps:g} Mbit/s, {rtt_ms:g} ms" for mbps in MBPS for rtt_ms in (0.0, 20.0))
    lines = (
        (draft.name, *(needed(plain, draft, mbps, rtt_ms) for mbps in MBPS for rtt_ms in (0.0, 20.0)))
        for draft in fed
    )
    return Table("agreement needed to be as fast as the plain draft", ("draft", *heads), tuple(lines))


def chart(points: Sequence[dict]) -> Drawing:
    """A panel a pair and bandwidth: speed-up over round trip, a line a draft."""
    names = list(dict.fromkeys(point["draft"] for point in points))
    looks = {name: (f"series{index}", SHAPES[index]) for index, name in enumerate(names)}

    def draw(ink: Ink, width: int) -> object:
        color, _ = by_name("draft", names, looks, ink, width, "draft")
        panels = {}
        for panel in dict.fromkeys(point["panel"] for point in points):
            mine = data([point for point in points if point["panel"] == panel])
            x = alt.X("rtt_ms:Q", title="round trip (ms)")
            y = alt.Y("speedup:Q", title="times the cloud alone", scale=alt.Scale(zero=False))
            panels[panel] = alt.layer(
                alt.Chart(mine).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color, description="label:N"),
                alt.Chart(data([{"one": 1.0}])).mark_rule(color=ink["muted"]).encode(y="one:Q"),
            ).properties(height=150)
        return side_by_side(panels, ink, width, 3, aside=60)

    title = "Modelled links: speed-up over the cloud alone, with and without hidden states"
    return Drawing("feature-bandwidth", title, told_by(points), draw, tuple(points))


def draft_of(run: Run, name: str) -> Draft:
    """What a stored run says of its draft."""
    costs = run_costs(run)
    assert costs is not None, f"{run.manifest.run_id} timed no drafts"
    return Draft(name, known_from(None, None, run, [METHOD]), costs)


def main() -> None:
    """Read the runs, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("plain", "eagle", "folder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, default=576)
    asked = parser.parse_args()
    store = RunStore(asked.runs_dir)
    plain, eagle = (draft_of(store.read(store.find(run)), PLAIN) for run in (asked.plain, asked.eagle))
    there = read_costs(TABLE)
    points: list[dict] = []
    for pair, found in {
        HERE: list(drafts(plain, eagle, asked.size, asked.layers)),
        SEVEN: list(
            drafts(Draft(PLAIN, plain.known, there), Draft("", eagle.known, there), 4096, asked.layers)
        ),
    }.items():
        print(f"\n{pair}\n")
        for table in (table_of(found), needs(found)):
            print("\n".join(markdown_table(table)))
        points += [
            {
                "panel": f"{pair.partition(',')[0].partition(' (')[0]}, {mbps:g} Mbit/s", "draft": draft.name,
                "rtt_ms": rtt_ms, "speedup": speedup,
                "label": f"{pair}, {mbps:g} Mbit/s, {draft.name}: {speedup:.2f} at {rtt_ms:g} ms",
            }
            for mbps in MBPS
            for draft in found
            for rtt_ms in RTTS
            for speedup, _ in [draft.speedup(mbps, rtt_ms)]
        ]  # fmt: skip
    for path in write_files([chart(points)], Path(asked.folder)):
        print(path)


if __name__ == "__main__":
    main()
