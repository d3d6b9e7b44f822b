"""Do replays say what runs do? Run by hand, on a quiet machine: tests/perf/replay_against_runs.py.

One agreement trace of all built-in prompts and one cost table, measured on none of them. Then real runs, each
in a process of its own:

1. Accepted lengths, round by round, over the whole set and at every draft length given: equal, or a tie of the
   draft's, seen in the margin of its probabilities at the first position that differs.
2. Time per token at every round trip given: the replayed one within 10 % of the measured one, each method.
   Beside it, for the same texts and costs, what the closed form says, which knows acceptance by position alone.

A replay gives each side processors of its own. Give costs and runs the same on two cores:

    python tests/perf/replay_against_runs.py --set edge.threads=1 --set cloud.threads=1 \\
        --set cloud.placement=process

Exits 1 when a draft or a replay fails; the closed form is shown, not judged.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from specbench.analysis.clock import Prices
from specbench.analysis.planning import alone_ms, forecast, measured_survival
from specbench.analysis.replay import CONTROL, replay, rounds
from specbench.analysis.schedule import Text
from specbench.bench.store import RunStore
from specbench.bench.traces import read_trace
from specbench.config.costs import read_costs

TIE = 1e-3  # margin of two probabilities; widths differ by about 1e-5 of a logit
CLOSE = 0.1


def specbench(*arguments: object) -> None:
    command = [sys.executable, "-c", "from specbench.cli import main; main()", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def as_text(traced):
    return Text.of(traced.agrees, traced.max_new_tokens, traced.prompt_tokens)


def first_difference(record, traced, draft_length):
    """Where a real run accepted otherwise than the trace says; `None` if nowhere."""
    position = 1
    real = [(part.drafted, part.accepted, len(part.tokens)) for part in record.rounds[1:]]
    for (drafted, accepted, committed), step in zip(real, rounds(as_text(traced), draft_length), strict=False):
        if (drafted, accepted, committed) != (step.drafted, step.accepted, step.committed):
            return position + min(accepted, step.accepted)
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
    texts = [as_text(traced) for _, traced in pairs]
    timed = replay(texts, prices, method, draft_length)
    if method == CONTROL:
        closed = alone_ms(prices)
    else:
        closed = forecast(measured_survival(texts), prices, method, draft_length).ms_per_token
    following = sum(one.tokens - 1 for one in timed)
    replayed = sum(one.decode_ms for one in timed) / following
    measured = sum(record.arrival_ms[-1] - record.arrival_ms[0] for record, _ in pairs) / following
    gap = replayed / measured - 1
    print(f"{method}, draft length {draft_length}, {rtt_ms} ms: replayed {replayed:.2f}, measured "
          f"{measured:.2f} ms a token ({gap:+.1%}, {len(pairs)} texts), "
          f"closed form {closed:.2f} ({closed / measured - 1:+.1%})")  # fmt: skip
    return abs(gap) <= CLOSE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", default=[], help="as for specbench run; repeatable")
    parser.add_argument(
        "--draft-lengths", type=numbers, default=[2, 4, 8], help="accepted lengths are compared at"
    )
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--limit", type=int, help="prompts of the accepted lengths; all of them if absent")
    parser.add_argument("--rtts", type=numbers, default=[0, 20, 100])
    parser.add_argument("--timed-length", type=int, default=4)
    parser.add_argument("--timed-prompts", type=int, default=12)
    parser.add_argument("--methods", default="speculative,speculative_pipelined,speculative_colocated")
    arguments = parser.parse_args()
    sets = [
        f"workload.limit={arguments.limit or 'null'}",
        f"workload.max_new_tokens={arguments.max_new_tokens}",
    ]
    shared = [
        "--profile",
        arguments.profile,
        *(part for text in [*arguments.set, *sets] for part in ("--set", text)),
    ]
    fine = True
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = RunStore(folder / "runs")
        specbench("trace", *shared, "--out", folder / "trace.json")
        specbench("limits", *shared, "--costs", folder / "costs.yaml")
        print((folder / "costs.yaml").read_text())
        costs = read_costs(folder / "costs.yaml")
        trace = {
            (text.prompt_id, text.turn, text.prompt_sha256): text
            for text in read_trace(folder / "trace.json").texts
        }
        for length in arguments.draft_lengths:
            run = ["run", "speculative", "--only", *shared, "--set", f"speculative.draft_length={length}"]
            specbench(*run, "--runs-dir", store.folder)
            fine &= accepted_lengths(trace, store.read(store.ids()[-1]).generations, length)
        methods = arguments.methods.split(",")
        for rtt in arguments.rtts:
            link = ["--set", f"link.rtt_ms={rtt}"] if rtt else []
            length = ["--set", f"speculative.draft_length={arguments.timed_length}"]
            specbench("run", *methods, *shared, *link, *length, "--limit", arguments.timed_prompts,
                      "--runs-dir", store.folder)  # fmt: skip
            records = store.read(store.ids()[-1]).generations
            for method in (*methods, CONTROL):
                fine &= times(trace, records, costs, method, arguments.timed_length, rtt)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
