"""What a pass and a round are made of: widths, rounds over parts, a step's breakdown, batch invariance."""

from __future__ import annotations

import random
from statistics import median

import torch
from engine_measure import Pair, answer, demand_compiled, in_turn, middle, parser, ratio, show, tokens_of
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline
from specbench.plugins.speculative import SpeculativeDecoding

from specbench.clock import now_ms
from specbench.engine import kernels
from specbench.engine.bandwidth import weight_bytes
from specbench.engine.quantized import QuantizedLinear

CONTEXT, WIDTHS, TREES = 48, (1, 2, 5, 8), (8, 16, 32, 64)


def passes(engine, context, widths):
    """A pass of each width behind `context` tokens, undone afterwards."""
    size = engine.vocabulary_size
    session = engine.session(context + max(widths))
    session.prefill([(100 + index) % size for index in range(context)])

    def of(width):
        def run():
            session.extend([(200 + index) % size for index in range(width)])
            session.truncate(context)

        return run

    return {width: of(width) for width in widths}


def widths(rest):
    arguments = parser(tokens=20).parse_args(rest)
    pairs = {
        "eager": Pair(arguments.profile, "eager"),
        "compiled": Pair(arguments.profile, "compiled"),
        "batch-invariant": Pair(arguments.profile, "compiled", batch_invariant=True),
    }
    actions = {
        (name, width): run
        for name, pair in pairs.items()
        for width, run in passes(pair.cloud.engine, CONTEXT, WIDTHS).items()
    }
    found = in_turn(actions, arguments.tokens)
    for name, pair in pairs.items():
        for width in WIDTHS:
            over = "" if width == 1 else f", over one token {ratio(found[name, width], found[name, 1])}"
            wanted = "1.5, better 1.25" if (name, width) == ("compiled", 5) else ""
            show(f"{name} ({pair.cloud.engine.kind}), width {width}", middle(found[name, width]) + over, wanted)


def tree(rest):
    """A pass over a random tree of each size and keeping a path of it, over a step of one token."""
    arguments = parser(tokens=20).parse_args(rest)
    for kind in ("eager", "compiled"):
        engine = Pair(arguments.profile, kind).cloud.engine
        actions = passes(engine, CONTEXT, (1, *TREES)) | {-size: branches(engine, size) for size in TREES}
        found = in_turn(actions, arguments.tokens)
        for size in TREES:
            branched, chain = (ratio(found[sign * size], found[1]) for sign in (-1, 1))
            show(f"{kind} ({engine.kind}): {size} tokens in steps, tree / chain", f"{branched} / {chain}")


def branches(engine, size):
    """A pass over a random tree behind `CONTEXT` tokens, of which a path is kept, undone afterwards."""
    parents = [random.Random(index).randrange(max(-1, index - 8), index) for index in range(size)]
    path = [size - 1]
    while parents[path[0]] >= 0:
        path.insert(0, parents[path[0]])
    session = engine.session(CONTEXT + size)
    session.prefill([(100 + index) % engine.vocabulary_size for index in range(CONTEXT)])

    def run():
        session.extend([(200 + index) % engine.vocabulary_size for index in range(size)], parents)
        session.keep(path)
        session.truncate(CONTEXT)

    return run


def rounds(rest):
    """Every round of full length, and its parts again, in sessions of their own at the same position."""
    options = parser(profile="quantized_edge", prompts=8, tokens=64)
    options.add_argument("--engine", default="compiled", choices=["compiled", "eager"])
    arguments = options.parse_args(rest)
    pair = Pair(arguments.profile, arguments.engine)
    length = pair.options.speculative.draft_length
    decoder = SpeculativeDecoding().open(pair.edge, pair.cloud, pair.options)
    whole, drafts, verifications = [], [], []
    for turn, request in enumerate(pair.requests("builtin", arguments.prompts + 1, arguments.tokens)):
        draft, target = (model.engine.session(len(request.prompt_ids) + arguments.tokens)
                         for model in (pair.edge, pair.cloud))  # fmt: skip
        for session in (draft, target):
            session.prefill(request.prompt_ids)
        committed, before = len(request.prompt_ids), now_ms()
        for part in decoder.generate(request):
            took = now_ms() - before
            if part.drafted == length:
                # Which tokens they are does not matter to their time; where they stand does.
                drafting = timed(draft, committed - draft.length)
                drafting += sum(timed(draft, 1) for _ in range(length - 1))
                verifying = timed(target, length + 1)
                draft.truncate(min(draft.length, committed + part.accepted))
                target.truncate(committed + part.accepted)
                if turn:  # the first prompt warms up
                    whole.append(took)
                    drafts.append(drafting)
                    verifications.append(verifying)
            committed += len(part.tokens)
            before = now_ms()
    parts = [sum(pair) for pair in zip(drafts, verifications, strict=True)]
    show("rounds", len(whole))
    show("a round", middle(whole))
    show(f"its {length} draft steps", middle(drafts))
    show(f"its verification of {length + 1}", middle(verifications))
    show("a round / the sum of its parts", ratio(whole, parts), "at most 1.05")
    show("the same, medians", f"{median(whole) / median(parts):.3f}")


def timed(session, width):
    started = now_ms()
    session.extend([5] * width)
    return now_ms() - started


def breakdown(rest):
    """A step of the target and of the edge, and how long its products alone take, one after the other."""
    arguments = parser(profile="quantized_edge", tokens=60).parse_args(rest)
    pair = Pair(arguments.profile, "compiled")
    demand_compiled(pair.edge, pair.cloud)
    ops, actions = kernels.load(), {}
    for model in (pair.cloud, pair.edge):
        layers = [part for part in model.engine.loaded.model.modules() if is_linear(part)]
        actions[model.role, "step"] = passes(model.engine, CONTEXT, (1,))[1]
        actions[model.role, "products"] = products(ops, layers)
        actions[model.role, "head"] = products(ops, layers[-1:])
        config = model.engine.loaded.model.config
        actions[model.role, "attention"] = attention(ops, config)
    found = in_turn(actions, arguments.tokens)
    for model in (pair.cloud, pair.edge):
        size = weight_bytes(model.engine.loaded.model)
        step = median(found[model.role, "step"])
        show(f"{model.role}: bytes of weights", f"{size / 1e6:.1f} MB")
        for part in ("step", "products", "head", "attention"):
            show(f"{model.role}: {part}", middle(found[model.role, part]))
        alone = median(found[model.role, "products"])
        show(f"{model.role}: bytes over products alone", f"{size / alone / 1e6:.1f} GB/s")
        left = step - alone - median(found[model.role, "attention"])
        show(
            f"{model.role}: the rest (norms, rotary, argmax, calls)",
            f"{left:.2f} ms, {left / step:.1%} of a step",
        )
    show("a draft step / a target step", ratio(found["edge", "step"], found["cloud", "step"]), "0.35")


def is_linear(part):
    return isinstance(part, (torch.nn.Linear, QuantizedLinear))


def products(ops, layers):
    def call(layer):
        if isinstance(layer, QuantizedLinear):
            kernel, x = getattr(ops, f"linear_{layer.kind}"), torch.ones(1, columns(layer))
            return lambda: kernel(x, *layer.tensors)
        x = torch.ones(1, layer.in_features)
        return lambda: ops.linear(x, layer.weight)

    calls = [call(layer) for layer in layers]

    @torch.inference_mode()
    def run():
        for one in calls:
            one()

    return run


def columns(layer):
    return layer.tensors[0].shape[1] * (2 if layer.kind == "int4" else 1)


def attention(ops, config):
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    query = torch.ones(1, config.num_attention_heads, 1, size)
    slots = [
        torch.ones(2, 1, config.num_key_value_heads, CONTEXT + 64, size)
        for _ in range(config.num_hidden_layers)
    ]
    places = torch.tensor([[CONTEXT], [CONTEXT], [0]])

    @torch.inference_mode()
    def run():
        for keys, values in slots:
            ops.attend(query, keys, values, places, size**-0.5)

    return run


def invariance(rest):
    """Text of the control, its single-step logits, and the same rows out of wider passes, bit for bit."""
    arguments = parser(profile="quantized_edge", prompts=48, tokens=24).parse_args(rest)
    invariant = Pair(arguments.profile, "compiled", batch_invariant=True)
    plain = Pair(arguments.profile, "compiled")
    demand_compiled(invariant.cloud, plain.cloud)
    alone = {name: CloudOptimizedBaseline().open(pair.edge, pair.cloud, pair.options)
             for name, pair in (("invariant", invariant), ("plain", plain))}  # fmt: skip
    drafting = SpeculativeDecoding().open(invariant.edge, invariant.cloud, invariant.options)
    rows = different = texts = 0
    times = {"invariant": [], "plain": []}
    requests = list(invariant.requests("builtin", arguments.prompts, arguments.tokens))
    for turn, request in enumerate(requests):
        found = {}
        for name in list(alone)[:: 1 if turn % 2 else -1]:
            ms, found[name] = answer(alone[name], request)
            times[name].append(ms)
        text = tokens_of(found["invariant"])
        texts += tokens_of(answer(drafting, request)[1]) == text
        single, wide = invariant.cloud.engine.session(len(request.prompt_ids) + len(text)), None
        single.prefill(request.prompt_ids)
        logits = torch.cat([single.extend([token]) for token in text])
        for width in WIDTHS[1:]:
            wide = invariant.cloud.engine.session(len(request.prompt_ids) + len(text))
            wide.prefill(request.prompt_ids)
            for begin in range(0, len(text), width):
                block = text[begin : begin + width]
                equal = (wide.extend(block) == logits[begin : begin + len(block)]).all(dim=1)
                rows, different = rows + len(block), different + int((~equal).sum())
    show("prompts", len(requests))
    show("rows of passes over 2, 5 and 8 tokens with other bits than alone", f"{different} of {rows}", "0")
    show("texts of greedy speculation equal to the control's", f"{texts} of {len(requests)}", "all")
    show("a step, invariant / not", ratio(times["invariant"], times["plain"]))
    pairs = {"invariant": invariant, "plain": plain}
    actions = {
        (name, width): run
        for name, pair in pairs.items()
        for width, run in passes(pair.cloud.engine, CONTEXT, (*WIDTHS, 256)).items()
    }
    passed = in_turn(actions, 8)
    for width in (*WIDTHS, 256):
        show(
            f"a pass over {width} tokens, invariant / not",
            ratio(passed["invariant", width], passed["plain", width]),
        )
