"""One scenario by specbench, transformers and llama.cpp: what each says of itself, and one clock of all.

    python tests/perf/tool_parity.py --llama BUILD/bin --gguf target-f32.gguf

The default target in float32, one greedy sequence, one prompt, the same number of tokens. A round asks every
tool once, in another order each time; the first round is a warm-up. *Own* is the figure that a tool prints, or
that scripts around it print. *Our clock* runs from asking to the first token, and from there to the last, as
they arrive. Both are of the same answers. llama-bench reads random tokens in a process of its own, and has no
second one. Without --llama, llama.cpp is left out; tool_parity_llama.py says how to get it.
"""

from __future__ import annotations

import argparse
import random
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from engine_measure import Pair, demand_compiled, middle, ratio, tokens_of
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline
from tool_parity_llama import bench, server

from specbench.clock import now_ms
from specbench.engine.threads import release_compute_threads

CONTROL = "specbench control, compiled"
COLUMNS = ("tool", "TTFT, own", "TTFT, our clock", "TPOT, own", "TPOT, our clock", "over the control", "text")


@dataclass
class Told:
    """What came of one answer, in milliseconds; `None` where that is unknown.

    Args:
        each: per token behind the first.
    """

    own_first: float | None
    own_each: float
    first: float | None = None
    each: float | None = None
    text: tuple[int, ...] = ()


def clocked(asked_ms, arrivals, count):
    """Milliseconds to the first token, and for each further one of `count`."""
    return arrivals[0] - asked_ms, (arrivals[-1] - arrivals[0]) / (count - 1)


def control(pair):
    """The loop of every run; what a run says of an answer is by these arrivals."""
    decoder = CloudOptimizedBaseline().open(pair.edge, pair.cloud, pair.options)

    def ask(request):
        asked_ms, arrivals, rounds = now_ms(), [], []
        for part in decoder.generate(request):
            arrivals.append(now_ms())
            rounds.append(part)
        found = clocked(asked_ms, arrivals, len(arrivals))
        return Told(*found, *found, tuple(tokens_of(rounds)))

    return ask


class Clock:
    """A streamer of transformers that notes when each token comes; the prompt comes first."""

    def __init__(self):
        self.arrivals = []

    def put(self, value):
        self.arrivals.append(now_ms())

    def end(self):
        pass


def generate(folder):
    """transformers' own loop. Scripts around it divide the whole time by the tokens, and know no first one."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # all answers have the whole budget

    def ask(request):
        clock, ids, asked_ms = Clock(), torch.tensor([request.prompt_ids]), now_ms()
        settings = {"do_sample": False, "max_new_tokens": request.max_new_tokens, "streamer": clock}
        found = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        own_each = (now_ms() - asked_ms) / request.max_new_tokens
        text = tuple(found[0, ids.shape[1] :].tolist())
        return Told(None, own_each, *clocked(asked_ms, clock.arrivals[1:], len(text)), text)

    return ask


def served(answer):
    """A server's own timings beside the arrivals of its events."""

    def ask(request):
        asked_ms = now_ms()
        arrivals, text, last = answer(request)
        timings = last["timings"]
        own = timings["prompt_ms"], timings["predicted_per_token_ms"]
        return Told(*own, *clocked(asked_ms, arrivals, last["tokens_predicted"]), text)

    return ask


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--llama", help="folder of llama-server and llama-bench")
    words.add_argument("--gguf", help="the target's weights as F32, for llama.cpp")
    words.add_argument("--rounds", type=int, default=8)
    words.add_argument("--tokens", type=int, default=64)
    words.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    compiled = Pair("default", "compiled")
    demand_compiled(compiled.cloud)
    (request,) = compiled.requests("builtin", 1, given.tokens)
    tools = {
        CONTROL: control(compiled),
        "specbench control, eager": control(Pair("default", "eager")),
        "transformers' generate": generate(compiled.cloud.folder),
    }
    with ExitStack() as stack:
        if given.llama:
            room = len(request.prompt_ids) + given.tokens + 8
            answer = stack.enter_context(server(given.llama, given.gguf, given.threads, room))
            tools["llama-server"] = served(answer)
            for name, deep in (("llama-bench", False), ("llama-bench, -d PROMPT", True)):
                of_one = bench(given.llama, given.gguf, given.threads, deep)
                tools[name] = lambda request, of_one=of_one: Told(*of_one(request))
        found = {name: [] for name in tools}
        for turn in range(given.rounds + 1):
            for name in random.Random(turn).sample(list(tools), len(tools)):
                told = tools[name](request)
                release_compute_threads()  # the next tool brings threads of its own
                if turn:
                    found[name].append(told)
    print(
        f"a prompt of {len(request.prompt_ids)} tokens, an answer of {given.tokens}, threads: {given.threads}"
    )
    print(f"medians and quartiles of {given.rounds} rounds; over the control: geometric mean, 95 % interval\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name, answers in found.items():
        print("|", " | ".join(cells(name, answers, found[CONTROL])), "|")


def cells(name, answers, ours):
    keys = ("own_first", "first", "own_each", "each")
    figures = {key: [getattr(each, key) for each in answers] for key in keys}
    shown = ["-" if None in values else middle(values) for values in figures.values()]
    if None in figures["each"]:
        return name, *shown, "-", "random tokens"
    same = sum(one.text == other.text for one, other in zip(answers, ours, strict=True))
    beside = ratio(figures["each"], [each.each for each in ours])
    return name, *shown, beside, f"{same} of {len(ours)} equal"


if __name__ == "__main__":
    main()
