"""How near the engines come to the memory wall: run by hand, `python tests/perf/engine.py`, on a quiet machine.

Every figure is a ratio of times measured in turn in one process, so a machine that drifts hurts all alike:

1. The control against the ceiling (what reading every weight once takes) and against `model.generate`.
2. A round of speculation against the sum of its parts: draft steps, and verification at that width.
3. Verification of five tokens against one step.
4. Time per token behind 64, 512 and 2,048 tokens of context.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.config import EngineSpec, load_profile

ENGINES = {
    "eager": EngineSpec(),
    "compiled": EngineSpec(kind="compiled"),
    "batch-invariant": EngineSpec(kind="compiled", batch_invariant=True),
}
CONTEXTS, WIDTHS = (64, 512, 2048), (1, 2, 5, 8)


def milliseconds(action):
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def interleaved(actions, times):
    """Median milliseconds of every action, all of them in turn."""
    for action in actions.values():
        action()
    columns = {name: [] for name in actions}
    for _ in range(times):
        for name, action in actions.items():
            columns[name].append(milliseconds(action))
    return {name: statistics.median(column) for name, column in columns.items()}


def passes(engine, context, widths):
    """A pass of each width behind `context` tokens, undone afterwards."""
    session = engine.session(context + 16)
    session.prefill([100 + index % 5000 for index in range(context)])

    def of(width):
        def run():
            session.extend(list(range(200, 200 + width)))
            session.truncate(context)

        return run

    return {width: of(width) for width in widths}


def weights_of(model):
    """Every tensor that a step must read, tied ones once."""
    return {tensor.data_ptr(): tensor for tensor in model.parameters()}.values()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--times", type=int, default=20)
    arguments = parser.parse_args()
    profile = load_profile(arguments.profile)
    factories = {name: CloudModel(profile.cloud, engine=spec) for name, spec in ENGINES.items()}
    engines = {}
    for name, factory in factories.items():
        engines[name] = factory.engine
        print(f"{name}: {engines[name].kind}")
    loaded = engines["compiled"].loaded
    bytes_read = sum(tensor.numel() * tensor.element_size() for tensor in weights_of(loaded.model))

    from specbench.decoding import kernels

    kernels.load()
    matrices = [tensor for tensor in weights_of(loaded.model) if tensor.dim() == 2]
    rows = {tensor.shape[1]: torch.ones(1, tensor.shape[1]) for tensor in matrices}

    def read_all():
        with torch.inference_mode():
            for tensor in matrices:
                torch.ops.specbench.linear(rows[tensor.shape[1]], tensor)

    steps = {(name, width): run for name in engines for width, run in passes(engines[name], 48, WIDTHS).items()}
    decoding = Options.of(profile).decoding
    prompt = tuple(range(100, 148))

    def generate(budget):
        for _ in factories["eager"].generate(Request(prompt, budget, frozenset()), decoding):
            pass

    actions = {**steps, "read": read_all, "generate 1": lambda: generate(1), "generate 9": lambda: generate(9)}
    found = interleaved(actions, arguments.times)
    per_token = (found["generate 9"] - found["generate 1"]) / 8
    print(
        f"{bytes_read / 1e6:.0f} MB of weights, read by the kernels alone at "
        f"{bytes_read / found['read'] / 1e6:.1f} GB/s; model.generate {per_token:.1f} ms a token"
    )
    for name in engines:
        one = found[name, 1]
        print(
            f"{name}: "
            + ", ".join(f"width {width} {found[name, width]:.2f} ms" for width in WIDTHS)
            + f" | of those reads {found['read'] / one:.2f}, model.generate / step {per_token / one:.2f}, "
            f"five / one {found[name, 5] / one:.2f}"
        )
    for name in engines:
        by_context = interleaved(
            {context: passes(engines[name], context, (1,))[1] for context in CONTEXTS}, arguments.times
        )
        base = by_context[CONTEXTS[0]]
        print(f"{name}: a token behind " + ", ".join(f"{c} {by_context[c] / base:.2f}" for c in CONTEXTS))
    for name, spec in ENGINES.items():
        print(f"{name}: a round / its parts {round_over_parts(profile, spec, factories[name]):.3f}")


def round_over_parts(profile, spec, cloud):
    """Time of rounds of full draft length over that of their draft steps and verifications alone."""
    edge = EdgeModel(profile.edge, engine=spec)
    options = Options.of(profile)
    length = options.speculative.draft_length
    decoder = SpeculativeDecoding().open(edge, cloud, options)
    draft, target = passes(edge.engine, 64, (1,))[1], passes(cloud.engine, 64, (length + 1,))[length + 1]
    rounds, drafts, verifications = [], [], []
    for _ in decoder.generate(Request(tuple(range(100, 148)), 1, frozenset())):
        pass
    stream = decoder.generate(Request(tuple(range(100, 148)), 60, frozenset()))
    next(stream)
    while True:
        started = time.perf_counter()
        part = next(stream, None)
        took = (time.perf_counter() - started) * 1000
        if part is None:
            return statistics.median(rounds) / (
                length * statistics.median(drafts) + statistics.median(verifications)
            )
        if part.drafted == length:
            rounds.append(took)
            drafts.append(milliseconds(draft))
            verifications.append(milliseconds(target))


if __name__ == "__main__":
    main()
