"""Up to which round trip drafts pay with windows: the formula over the agreement, and where some drafts lie.

    python tests/perf/breakeven_curve.py --folder curve [--measure] [--limit 12] [--target MODEL]
                                         [--set KEY=VALUE ...]

For each of `DRAFTS`, `specbench trace` and `specbench limits --costs` write a trace and a cost table into the
folder (those that are there are kept). From them come the formula (`specbench plan`'s closed form) and the
break-even of virtual runs over the trace, both at the draft length that the formula names, with `window: auto`.
With `--measure`, `specbench sweep` runs each draft at three round trips around the formula's; where its
speed-up crosses 1 is the measured break-even; where the ends of its intervals do, the ends of an error bar.

Writes break-even-curve.svg, .png, .pdf and .csv, and prints a line a draft. `--limit` is of all prompts. With
`--target`, drafts are another target's own weights in eight and in four bits (see rotated_target.py).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from specbench.forecast.acceptance_trace import read_trace
from specbench.forecast.known import of_trace
from specbench.forecast.plan import alone_ms, with_windows
from specbench.forecast.replay import known_method
from specbench.forecast.window_form import window_even
from specbench.profile.cost_table import read_costs
from specbench.render.report.inks import SHAPES, Ink, by_name
from specbench.render.report.marks import Drawing, data, finished, told_by
from specbench.render.report.pictures import write_files
from specbench.stats.prices import Prices

INT8 = ["--profile", "quantized_edge"]
DRAFTS = {
    "int8": INT8,
    "int4": [*INT8, "--set", "edge.quantization=int4"],
    "distilled": ["--profile", "default"],
    "distilled, int8": [
        "--profile",
        "default",
        "--set",
        "edge.quantization=int8",
        "--set",
        "precision.parity=per_role",
    ],
    "int8, 28 of 30 layers": [*INT8, "--set", "edge.layers=28"],
}
APART = ("cloud.placement=process", "edge.threads=1", "cloud.threads=1")
SHARES = (0.6, 1.0, 1.5)  # of the formula's break-even, that are measured
LEAST, LEAST_MS = 0.4, 1.0  # of the chart


def quantized(target: str) -> dict[str, list[str]]:
    """Drafts that are a target's own weights in fewer bits."""
    models = ["--set", f"edge.model={target}", "--set", f"cloud.model={target}"]
    return {name: [*DRAFTS[name], *models] for name in ("int8", "int4")}


def specbench(*words: str) -> str:
    """What a command prints."""
    print("specbench", *words, file=sys.stderr)
    return subprocess.run(
        [sys.executable, "-m", "specbench", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def made(path: Path, *words: str) -> Path:
    """A file that a command writes; kept where it is there already."""
    if not path.exists():
        specbench(*words, str(path))
    return path


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """The round trip at which a speed-up is 1, on a line through its logarithms."""
    for (near, fast), (far, slow) in pairwise(sorted(points)):
        if fast >= 1 > slow:
            return near + (far - near) * math.log(fast) / (math.log(fast) - math.log(slow))
    return None


def measured(path: Path, words: Sequence[str], formula_ms: float, length: int) -> dict[str, float | None]:
    """Where the measured speed-up, and each end of its interval, crosses 1."""
    rtts = ",".join(f"{max(0.0, share * formula_ms):.0f}" for share in SHARES)
    how = ["--set", "speculative.window=auto", "--set", f"speculative.draft_length={length}"]
    if not path.exists():
        path.write_text(
            specbench("sweep", "speculative", *words, *how, "--over", f"link.rtt_ms={rtts}", "--json")
        )
    rows = [row for row in json.loads(path.read_text())["rows"] if row["method"] == "speculative"]
    read: dict[str, Callable[[dict], float]] = {
        "ms": lambda row: row["speedup"],
        "low": lambda row: (row["interval"] or [row["speedup"]])[0],
        "high": lambda row: (row["interval"] or [row["speedup"]])[-1],
    }
    return {
        name: crossing([(row["condition"]["link.rtt_ms"], figure(row)) for row in rows])
        for name, figure in read.items()
    }


def said(ms: float | None) -> str:
    """A break-even in words."""
    return "nowhere" if ms is None or ms <= 0 else f"{ms:.0f} ms"


def chart(curves: Sequence[dict], points: Sequence[dict]) -> Drawing:
    """Curves of the formula, and points on them and beside them."""
    names = list(dict.fromkeys(row["draft"] for row in points))
    kinds = list(dict.fromkeys(row["kind"] for row in points))
    looks = {name: (f"series{index}", SHAPES[0]) for index, name in enumerate(names)}
    shapes = {"formula": "cross", "virtual runs": "square", "measured": "circle"}

    def draw(ink: Ink, width: int) -> object:
        import altair as alt

        color, _ = by_name("draft", names, looks, ink, width, "draft")
        x = alt.X("agreement:Q", title="agreement (share of drafted tokens that stand)",
                  scale=alt.Scale(domain=[LEAST, 1], nice=False))  # fmt: skip
        scale = alt.Scale(type="log", domain=[LEAST_MS, 1000], nice=False, clamp=True)
        title = "break-even round trip (ms)"
        y = alt.Y("rtt_ms:Q", title=title, scale=scale)
        shape = alt.Shape(
            "kind:N", title="by", scale=alt.Scale(domain=kinds, range=[shapes[kind] for kind in kinds])
        )
        low = alt.Y("low:Q", title=title, scale=scale)
        spot = alt.Chart(data(points)).encode(x=x, color=color)
        return finished(
            [
                alt.Chart(data(curves)).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color),
                spot.transform_filter("isValid(datum.low) && isValid(datum.high)")
                .mark_rule(strokeWidth=2)
                .encode(y=low, y2="high:Q"),
                spot.mark_point(size=80, opacity=1, strokeWidth=2).encode(
                    y=y, shape=shape, description="label:N"
                ),
            ],
            ink,
            width,
        )

    title = "Break-even round trip with windows: the formula over the agreement, and drafts"
    return Drawing("break-even-curve", title, told_by(points), draw, (*points, *curves))


def main() -> None:
    """Make what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--target")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    texts = ["--set", f"workload.limit={asked.limit}"]
    apart = [word for setting in (*APART, *asked.overrides) for word in ("--set", setting)]
    method = known_method("speculative")
    curves: list[dict] = []
    points: list[dict] = []
    drafts = quantized(asked.target) if asked.target else DRAFTS
    for draft, words in drafts.items():
        stem = asked.folder / draft.replace(", ", "-").replace(" ", "-")
        trace = made(stem.with_suffix(".trace.json"), "trace", *words, *texts, "--out")
        costs = made(stem.with_suffix(".costs.yaml"), "limits", *words, *apart, "--costs")
        known, prices = of_trace(read_trace(trace), [method]), Prices(read_costs(costs))
        found = with_windows(known, prices)["speculative"]
        agreement = known.survival.mean
        tokens = sum(len(text.runs) for text in known.texts) / len(known.texts)
        step_ms = alone_ms(known, prices)
        even = {"formula": {"ms": found.formula_rtt_ms}, "virtual runs": {"ms": found.break_even_rtt_ms}}
        if asked.measure:
            where, how = stem.with_suffix(".sweep.json"), [*words, *texts, *apart]
            even["measured"] = measured(where, how, found.formula_rtt_ms, found.draft_length)
        told = ", ".join(f"{kind} {said(value['ms'])}" for kind, value in even.items())
        print(
            f"{draft}: agreement {agreement:.3f}, {tokens:.0f} tokens a text, "
            f"draft step {prices.step_ms:.2f} ms, target step {step_ms:.2f} ms, "
            f"draft length {found.draft_length}: {told}"
        )
        points += [
            {
                "draft": draft, "kind": kind, "agreement": agreement, "rtt_ms": value["ms"],
                "low": value.get("low"), "high": value.get("high"),
                "label": f"{draft}, {kind}: {said(value['ms'])}",
            }
            for kind, value in even.items()
            if value["ms"] and value["ms"] >= LEAST_MS
        ]  # fmt: skip
        curves += [
            {"draft": draft, "kind": "curve", "agreement": share, "rtt_ms": rtt_ms}
            for share in (LEAST + (1 - LEAST) * index / 120 for index in range(121))
            for rtt_ms in [window_even(prices, step_ms, share, tokens).rtt_ms]
            if rtt_ms >= LEAST_MS
        ]
    for path in write_files([chart(curves, points)], asked.folder):
        print(path)


if __name__ == "__main__":
    main()
