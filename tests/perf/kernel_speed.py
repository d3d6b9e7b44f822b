"""What one pass over the weights of a 135 M parameter Llama costs: our kernels beside torch's linear.

Every matrix is its own memory (538 MB in float32), so that nothing is read twice within a pass. Run by hand,
on a quiet machine: python tests/perf/kernel_speed.py [--widths 1 2 5 8]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from specbench.engine import huge_pages, kernels

LAYERS, HIDDEN, INNER, KEYS, VOCABULARY = 30, 576, 1536, 192, 49152
SHAPES = [
    *[(HIDDEN, HIDDEN), (KEYS, HIDDEN), (KEYS, HIDDEN), (HIDDEN, HIDDEN)] * LAYERS,
    *[(INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)] * LAYERS,
    (VOCABULARY, HIDDEN),
]


def best_ms(run: Callable[[], object], repeats: int) -> float:
    """The fastest of some runs; others are slower because of the machine, not because of the code."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times) * 1e3


def main() -> None:
    """Print milliseconds per pass for each kind of weight and each width."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 5, 8, 16, 32, 64, 128])
    parser.add_argument("--repeats", type=int, default=8)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ops = kernels.load()
    weights = [torch.randn(shape) / 25 for shape in SHAPES]
    eights = [kernels.quantize_int8(weight) for weight in weights]
    fours = [kernels.quantize_int4(weight) for weight in weights]
    huge_pages.move(
        [*weights, *(part for operands in (*eights, *fours) for part in operands)]
    )  # as the engine does
    inputs = {(n, k): torch.randn(n, k) for n in arguments.widths for k in (HIDDEN, INNER)}
    kinds: dict[str, tuple[Callable, list[tuple]]] = {
        "float32": (ops.linear, [(weight,) for weight in weights]),
        "float32, rows one by one": (ops.linear, [(weight,) for weight in weights]),
        "int8": (ops.linear_int8, eights),
        "int4": (ops.linear_int4, fours),
        "F.linear": (torch.nn.functional.linear, [(weight,) for weight in weights]),
    }
    bytes_read = sum(weight.nbytes for weight in weights)
    with torch.inference_mode():
        flat = torch.cat([weight.view(-1) for weight in weights])
        ms = best_ms(flat.sum, arguments.repeats)
        del flat
        print(f"torch.sum of as many bytes: {ms:.2f} ms, {bytes_read / ms / 1e6:.1f} GB/s")
        for name, (run, operands) in kinds.items():
            columns = []
            ops.read_one_by_one("one by one" in name)
            for n in arguments.widths:

                def one_pass(n: int = n, run: Callable = run, operands: list[tuple] = operands) -> None:
                    for shape, operand in zip(SHAPES, operands, strict=True):
                        run(inputs[n, shape[1]], *operand)

                columns.append(f"{n}: {best_ms(one_pass, arguments.repeats):.2f}")
            total = sum(part.nbytes for operand in operands for part in operand)
            print(f"{name} ({total / 1e6:.0f} MB), ms at width " + ", ".join(columns))


if __name__ == "__main__":
    main()
