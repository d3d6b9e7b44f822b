"""A hybrid of a real architecture and size: is speculation exact, and do replays and plans say what it takes?

    python tests/perf/hybrid.py [--family granitemoehybrid | lfm2] [--folder DIR] [--limit 4] [--own-only]

Run by hand, on a quiet machine. Layers and sizes are those of Granite 4.0 H 350M (granitemoehybrid) or
LFM2-350M (lfm2). Granite's chunks have 16 tokens and not 256, for transformers fills each pass up to a chunk
without the kernels of mamba_ssm. The weights are random: what a round takes does not depend on them. The draft
is two of the target's layers; all but the first write so faintly that it agrees often, and not always.

`speculative` and the control answer short prompts in one run, a prompt in turns. Two cost tables are replayed
and planned over an agreement trace: the run's own, as `plan --run` takes it, and the mean of what `limits
--costs` measures before and after the run (not with `--own-only`). Printed is predicted over measured time a
token of both methods, and of their ratio. Exits 1 where a text differs from the control's by more than a tie,
no state was restored (LFM2's can be cut), or a prediction is off by more than 10 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch
from replay_against_runs import CLOSE, mean_costs, specbench
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig

from specbench.forecast.acceptance_trace import Trace, read_trace
from specbench.forecast.known import of_trace
from specbench.forecast.plan import alone_ms, forecast
from specbench.forecast.replay import known_method, replay
from specbench.forecast.traced_drafter import text_of
from specbench.profile.cost_table import Costs, read_costs
from specbench.profile.yaml_text import as_page
from specbench.results.records import CONTROL, Generation
from specbench.results.store import RunStore
from specbench.stats.measured_costs import run_costs
from specbench.stats.prices import Prices
from specbench.testing import tiny_tokenizer

SPECULATIVE = "speculative"
LFM2_ATTENTION = 2, 5, 8, 10, 12, 14
GRANITE_ATTENTION = 10, 13, 17, 27
FAMILIES = {
    "lfm2": {
        "vocab_size": 65536, "hidden_size": 1024, "intermediate_size": 6656, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 8, "conv_L_cache": 3,
        "layer_types": ["full_attention" if layer in LFM2_ATTENTION else "conv" for layer in range(16)],
    },
    "granitemoehybrid": {
        "vocab_size": 100352, "hidden_size": 768, "intermediate_size": 2048, "shared_intermediate_size": 2048,
        "num_hidden_layers": 32, "num_attention_heads": 12, "num_key_value_heads": 4, "num_local_experts": 0,
        "num_experts_per_tok": 0, "mamba_n_heads": 48, "mamba_d_head": 32, "mamba_d_state": 128,
        "mamba_n_groups": 1, "mamba_chunk_size": 16, "mamba_d_conv": 4, "mamba_expand": 2,
        "position_embedding_type": None, "tie_word_embeddings": True,
        "layer_types": ["attention" if layer in GRANITE_ATTENTION else "mamba" for layer in range(32)],
    },
}  # fmt: skip
PROMPTS = (
    "Name three rivers of Europe.", "Why is the sky blue?", "A short poem about a fox.", "12 times 12 is",
    "What does a compiler do?", "The capital of Peru is", "Describe the smell of rain.", "Sort: fig, apple.",
)  # fmt: skip


def build(family: str, folder: Path, faint: float) -> None:
    """Write `target` and `draft`; all layers of both but the first add to a token's state by `faint` only."""
    torch.manual_seed(7)
    shape = FAMILIES[family]
    kept = 0, next(layer for layer, kind in enumerate(shape["layer_types"]) if "attention" in kind)
    target = AutoModelForCausalLM.from_config(configuration(family), dtype=torch.float32)
    layers = [shape["layer_types"][layer] for layer in kept]
    smaller = configuration(family, num_hidden_layers=len(kept), layer_types=layers)
    draft = AutoModelForCausalLM.from_config(smaller, dtype=torch.float32)
    with torch.no_grad():
        for layer in target.model.layers[1:]:
            for name, weights in layer.named_parameters():
                if weights.ndim == 2 and name.split(".")[-2] in ("out_proj", "o_proj", "w2", "output_linear"):
                    weights *= faint
        for mine, theirs in zip(draft.model.layers, kept, strict=True):
            mine.load_state_dict(target.model.layers[theirs].state_dict())
        draft.get_input_embeddings().weight.copy_(target.get_input_embeddings().weight)
    for name, model in (("target", target), ("draft", draft)):
        model.save_pretrained(folder / name)
        tiny_tokenizer(model.config.vocab_size).save_pretrained(folder / name)
        print(
            f"{family}, {name}: {sum(weights.numel() for weights in model.parameters()) / 1e6:.0f} M parameters"
        )


def configuration(family: str, **fields: object) -> PretrainedConfig:
    """Of the real architecture and size, where no field says otherwise."""
    own = {"initializer_range": 0.05, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    return CONFIG_MAPPING[family](**{**FAMILIES[family], **own, **fields})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, default="granitemoehybrid")
    parser.add_argument("--folder", type=Path, help="keeps the model there (default: a temporary folder)")
    parser.add_argument("--faint", type=float, default=0.02, help="the less, the more drafts are accepted")
    parser.add_argument("--limit", type=int, default=4, help="prompts")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--length", type=int, default=4, help="tokens of a draft")
    parser.add_argument("--own-only", action="store_true", help="measure no costs beside the run")
    parser.add_argument("--set", action="append", default=[], help="as for specbench run; repeatable")
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        sys.exit(not measured(arguments, Path(scratch)))


def measured(arguments: argparse.Namespace, scratch: Path) -> bool:
    """Build, trace, measure, run, compare; whether all is well."""
    pair = (arguments.folder or scratch) / f"{arguments.family}-{arguments.faint}"
    if not (pair / "draft" / "tokenizer.json").exists():
        build(arguments.family, pair, arguments.faint)
    prompts = scratch / "prompts.jsonl"
    lines = [json.dumps({"question_id": n, "category": "c", "turns": [text]}) for n, text in enumerate(PROMPTS)]
    prompts.write_text("\n".join(lines[: arguments.limit]) + "\n")
    settings = {
        "cloud.model": pair / "target", "edge.model": pair / "draft", "edge.vocab_map": "null",
        "cloud.device": "cpu", "engine.kind": "eager", "workload.prompts": prompts,
        "workload.limit": arguments.limit, "workload.max_new_tokens": arguments.max_new_tokens,
        "speculative.draft_length": arguments.length,
    }  # fmt: skip
    sets = [f"{key}={value}" for key, value in settings.items()] + arguments.set
    shared = [word for text in sets for word in ("--set", text)]

    def costs() -> list[Costs]:
        if arguments.own_only:
            return []
        specbench("limits", *shared, "--costs", scratch / "costs.yaml")
        return [read_costs(scratch / "costs.yaml")]

    specbench("trace", *shared, "--out", scratch / "trace.json")
    before, store = costs(), RunStore(scratch / "runs")
    specbench(
        "run", SPECULATIVE, *shared, "--runs-dir", store.folder
    )  # fails where a text is not the control's
    tables, run = [*before, *costs()], store.read(store.ids()[-1])
    own = run_costs(run)
    assert own is not None
    found = {"the run's own costs": own, **({"measured costs": mean_costs(tables)} if tables else {})}
    fine = told_rounds(run.generations)
    for name, table in found.items():
        print(f"{name}:\n{as_page(table.model_dump(mode='json', exclude_none=True))}")
        fine &= compared(run.generations, read_trace(scratch / "trace.json"), table, arguments.length)
    return fine


def told_rounds(records: Sequence[Generation]) -> bool:
    """Print what rounds accepted, read again and copied; whether something was read again."""
    rounds = [part for one in records if one.method == SPECULATIVE for part in one.rounds[1:] if part.drafted]
    accepted, again = (
        fmean(part.accepted or 0 for part in rounds),
        fmean(part.replayed_tokens or 0 for part in rounds),
    )
    copied = fmean(part.snapshot_bytes or 0 for part in rounds) / 1e6
    print(
        f"{len(rounds)} rounds: {accepted:.2f} tokens accepted, {again:.2f} read again, {copied:.2f} MB copied"
    )
    return again > 0


def compared(records: Sequence[Generation], trace: Trace, costs: Costs, length: int) -> bool:
    """Print what was predicted over what was measured; whether that is close."""
    prices, known = Prices(costs), of_trace(trace)
    texts = {(text.prompt_id, text.turn, text.prompt_sha256): text for text in trace.texts}
    ms: dict[str, tuple[float, float, float]] = {}
    for method in (SPECULATIVE, CONTROL):
        answers = [one for one in records if one.method == method]
        pairs = [(one, texts[one.prompt_id, one.turn, one.prompt_sha256]) for one in answers]
        pairs = [(one, text) for one, text in pairs if one.tokens == text.tokens]  # the others are ties
        took = sum(one.arrival_ms[-1] - one.arrival_ms[0] for one, _ in pairs)
        timed = replay([text_of(text) for _, text in pairs], prices, method, length)
        following = sum(one.tokens - 1 for one in timed)
        planned = alone_ms(known, prices)
        if method == SPECULATIVE:
            planned = forecast(known, prices, known_method(method), length).ms_per_token
        ms[method] = took / following, sum(one.decode_ms for one in timed) / following, planned
        real, replayed, _ = ms[method]
        print(f"{method:26} measured {real:7.2f} ms a token; over that: replay {replayed / real:.3f}, "
              f"plan {planned / real:.3f} ({len(pairs)} of {len(texts)} texts as traced)")  # fmt: skip
    real, replayed, planned = (mine / base for mine, base in zip(ms[SPECULATIVE], ms[CONTROL], strict=True))
    print(f"{'their ratio':26} measured {real:7.3f}; over that: replay {replayed / real:.3f}, "
          f"plan {planned / real:.3f}", flush=True)  # fmt: skip
    return all(abs(each / found[0] - 1) <= CLOSE for found in ms.values() for each in found[1:])


if __name__ == "__main__":
    main()
