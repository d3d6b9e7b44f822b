"""How near the engines come to the memory wall: run by hand, on a quiet machine, one figure at a time.

    python tests/perf/engine.py control      1. the control against the ceiling, and against model.generate
    python tests/perf/engine.py speculative  2. speculation with an int8 edge over the control, all prompts
    python tests/perf/engine.py rounds       2. time of a round against the sum of its parts
    python tests/perf/engine.py assisted     3. eager speculation against transformers' assisted generation
    python tests/perf/engine.py llama        4. the control against llama.cpp in F32 (see engine_peer.py)
    python tests/perf/engine.py context      5. time and memory per token behind 64, 512 and 2,048 tokens
    python tests/perf/engine.py memory       5. resident size over 1,000 prompts
    python tests/perf/engine.py harness      6. what runner, records, live view and monitor take of a run
    python tests/perf/engine.py widths          a pass over 1, 2, 5 and 8 tokens, every engine
    python tests/perf/engine.py tree            a tree of 8, 16, 32 and 64 tokens beside a chain, in steps
    python tests/perf/engine.py breakdown       where a step's time goes: products, attention, the rest
    python tests/perf/engine.py invariance      bitwise equality over every built-in prompt, and its price

Every figure is a ratio of times measured in turn in one process, so that a machine that drifts hurts all alike;
one to three minutes each, besides compiling once. `--prompts`, `--tokens` and `--profile` change the amount.
"""

from __future__ import annotations

import argparse
import importlib

FIGURES = {
    "control": "engine_speed",
    "speculative": "engine_speed",
    "assisted": "engine_speed",
    "rounds": "engine_parts",
    "widths": "engine_parts",
    "tree": "engine_parts",
    "breakdown": "engine_parts",
    "invariance": "engine_parts",
    "llama": "engine_peer",
    "context": "engine_growth",
    "memory": "engine_growth",
    "harness": "engine_harness",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=FIGURES)
    arguments, rest = parser.parse_known_args()
    import torch

    print(f"{arguments.figure}, {torch.get_num_threads()} threads")
    getattr(importlib.import_module(FIGURES[arguments.figure]), arguments.figure)(rest)


if __name__ == "__main__":
    main()
