"""Do replays say what runs do? Run by hand, on a quiet machine: python tests/perf/replay_against_runs.py.

One agreement trace, then real runs, each in a process of its own:

1. Accepted lengths, round by round, at every draft length given: equal, or a tie of the draft's, seen in the
   margin of its probabilities at the first position that differs.
2. Time per token at every round trip given, of each method and of the control: the replayed one within 10 % of
   the measured one. Costs are measured before and after each run, on other prompts, and their means replayed:
   what a machine gives changes within minutes. Printed are the gap of all texts together, and the lowest and
   the highest gap of a text.

A process and a thread each for draft and target, unless `--set` says otherwise, and about five minutes with the
default pair. Exits 1 when a draft or a replay fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from specbench.forecast.acceptance_trace import read_trace
from specbench.forecast.replay import replay, rounds
from specbench.forecast.traced_drafter import text_of
from specbench.profile.cost_table import Costs, read_costs
from specbench.profile.yaml_text import as_page
from specbench.results.records import CONTROL
from specbench.results.store import RunStore
from specbench.stats.prices import Prices

TIE = 1e-3  # margin of two probabilities; widths differ by about 1e-5 of a logit
CLOSE = 0.1


def specbench(*arguments: object) -> None:
    command = [sys.executable, "-c", "from specbench.cli import main; main()", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def first_difference(record, traced, draft_length):
    """Where a real run accepted otherwise than the trace says; `None` if nowhere."""
    position = 1
    real = [(part.drafted, part.accepted, len(part.tokens)) for part in record.rounds[1:]]
    for (drafted, accepted, committed), part in zip(real, rounds(text_of(traced), draft_length), strict=False):
        if (drafted, accepted, committed) != (part.drafted, part.accepted, len(part.tokens)):
            return position + min(accepted, part.accepted)
        position += committed
    return None


def accepted_lengths(trace, records, draft_length) -> bool:
    """Print how the runs of one draft length compare; whether nothing but ties differs."""
    equal = ties = texts = bugs = 0
    for record in records:
        traced = trace.get((record.prompt_id, record.turn, record.prompt_sha256))
        if traced is None or traced.tokens != record.tokens:
            texts += 1  # a tie of the target's: another text, or another conversation behind one
            continue
        position = first_difference(record, traced, draft_length)
        if position is None:
            equal += 1
        elif traced.margin[position] <= TIE:
            ties += 1
        else:
            bugs += 1
            print(
                f"  {record.prompt_id}/{record.turn}: differs at {position}, margin {traced.margin[position]}"
            )
    print(f"draft length {draft_length}: {equal} texts accepted alike, {ties} differ by a tie of the draft's, "
          f"{texts} texts are others by a tie of the target's, {bugs} differ otherwise")  # fmt: skip
    return bugs == 0


def mean_costs(tables: list[Costs]) -> Costs:
    """The means of several tables of one shape."""

    def mean(values):
        if isinstance(values[0], dict):
            return {key: mean([one[key] for one in values]) for key in values[0]}
        is_number = isinstance(values[0], float | int) and not isinstance(values[0], bool)
        return fmean(values) if is_number and not isinstance(values[0], int) else values[0]

    return Costs.model_validate(mean([one.model_dump() for one in tables]))


def times(trace, records, costs, method, draft_length, rtt_ms) -> bool:
    """Print replayed and measured time per token of one method; whether they are close."""
    known = {record.key: record for record in records if record.method == method}
    pairs = [
        (record, trace[place])
        for record in known.values()
        if (place := (record.prompt_id, record.turn, record.prompt_sha256)) in trace
    ]
    pairs = [(record, traced) for record, traced in pairs if record.tokens == traced.tokens and record.tpot_ms]
    prices = Prices(costs.with_values({"link.rtt_ms": float(rtt_ms)}))
    timed = replay([text_of(traced) for _, traced in pairs], prices, method, draft_length)
    measured = [record.arrival_ms[-1] - record.arrival_ms[0] for record, _ in pairs]
    gaps = [one.decode_ms / ms - 1 for one, ms in zip(timed, measured, strict=True)]
    following = sum(one.tokens - 1 for one in timed)
    replayed_ms = sum(one.decode_ms for one in timed)
    gap = replayed_ms / sum(measured) - 1
    print(f"{method:26} {rtt_ms:>4} ms: replayed {replayed_ms / following:7.2f}, measured "
          f"{sum(measured) / following:7.2f} ms a token, gap {gap:+6.1%} "
          f"({len(pairs)} texts, {min(gaps):+.1%} to {max(gaps):+.1%})", flush=True)  # fmt: skip
    return abs(gap) <= CLOSE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", help="as for specbench run; repeatable")
    parser.add_argument("--draft-lengths", type=numbers, default=[4], help="accepted lengths are compared at")
    parser.add_argument("--max-new-tokens", type=int, default=40)
    parser.add_argument("--limit", type=int, default=8, help="prompts")
    parser.add_argument("--rtts", type=numbers, default=[0, 20, 100])
    parser.add_argument("--timed-length", type=int, default=4)
    parser.add_argument("--methods", default="speculative,speculative_pipelined,prompt_lookup")
    arguments = parser.parse_args()
    sets = [
        *(arguments.set or ("edge.threads=1", "cloud.threads=1", "cloud.placement=process")),
        f"workload.limit={arguments.limit}",
        f"workload.max_new_tokens={arguments.max_new_tokens}",
    ]
    shared = ["--profile", arguments.profile, *(part for text in sets for part in ("--set", text))]
    fine, began = True, time.monotonic()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = RunStore(folder / "runs")

        def measured_costs() -> Costs:
            specbench("limits", *shared, "--costs", folder / "costs.yaml")
            return read_costs(folder / "costs.yaml")

        specbench("trace", *shared, "--out", folder / "trace.json")
        trace = {
            (text.prompt_id, text.turn, text.prompt_sha256): text
            for text in read_trace(folder / "trace.json").texts
        }
        for length in arguments.draft_lengths:
            run = ["run", "speculative", "--only", *shared, "--set", f"speculative.draft_length={length}"]
            specbench(*run, "--runs-dir", store.folder)
            fine &= accepted_lengths(trace, store.read(store.ids()[-1]).generations, length)
        methods, before = arguments.methods.split(","), measured_costs()
        for rtt in arguments.rtts:
            link = ["--set", f"link.rtt_ms={rtt}"] if rtt else []
            length = ["--set", f"speculative.draft_length={arguments.timed_length}"]
            specbench("run", *methods, *shared, *link, *length, "--runs-dir", store.folder)
            after = measured_costs()
            records, costs = store.read(store.ids()[-1]).generations, mean_costs([before, after])
            for method in (*methods, CONTROL):
                fine &= times(trace, records, costs, method, arguments.timed_length, rtt)
            before = after
    print(f"{time.monotonic() - began:.0f} s; the last cost table:")
    print(as_page(before.model_dump(mode="json")))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
