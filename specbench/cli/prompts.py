"""`specbench prompts`: make a prompts file from what people have, and describe one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.app import App
from specbench.cli.options import argument, examples, option

app = App(
    help="Prepare prompts from data sets or files, or describe a prompts file.",
    epilog=examples(
        "specbench prompts prepare questions.csv --column question --out prompts.jsonl",
        "specbench prompts describe prompts.jsonl",
    ),
)


@app.callback()
def prompts(context: typer.Context) -> None:
    """Prepare prompts from data sets or files, or describe a prompts file."""
    options.show_help(context)


@app.command(
    "prepare",
    epilog=examples(
        "specbench prompts prepare gsm8k --sample 48 --out gsm8k.jsonl",
        "specbench prompts prepare chats.jsonl --max-tokens 512 --out chats-short.jsonl",
    ),
)
def prepare(
    source: Annotated[
        str,
        argument(
            "NAME|FILE",
            "A known data set such as gsm8k, hf:OWNER/NAME, a file (.jsonl, .json, .csv, .tsv, .parquet, "
            ".txt), a folder, or retrieval: long texts with codes to find.",
        ),
    ],
    out: Annotated[Path, option("--out", "Prompts file to write.", "FILE")],
    form: Annotated[
        str | None, option("--format", "Format of the rows (default: by their columns).", "NAME")
    ] = None,
    column: Annotated[str | None, option("--column", "Column that holds the prompt.", "NAME")] = None,
    category: Annotated[
        str | None, option("--category-column", "With --column: column that holds the category.", "NAME")
    ] = None,
    tokens: Annotated[
        str | None, option("--tokens", "With retrieval: lengths of prompts (default: 1024).", "N,N")
    ] = None,
    needles: Annotated[
        int | None, option("--needles", "With retrieval: codes to find (default: 3).", "N", min=1, max=16)
    ] = None,
    min_tokens: Annotated[
        int | None, option("--min-tokens", "Shortest prompt to keep, in tokens.", "N", min=1)
    ] = None,
    max_tokens: Annotated[
        int | None, option("--max-tokens", "Longest prompt to keep, in tokens.", "N", min=1)
    ] = None,
    sample: Annotated[
        int | None, option("--sample", "Draw N prompts, evenly from all categories.", "N", min=1)
    ] = None,
    seed: Annotated[int, option("--seed", "Seed of the draw, and of what is made.", "N")] = 0,
    config: Annotated[str | None, option("--config", "Configuration of a data set.", "NAME")] = None,
    split: Annotated[str | None, option("--split", "Split of a data set.", "NAME")] = None,
    revision: Annotated[str | None, option("--revision", "Revision of a data set.", "REV")] = None,
    license: Annotated[str | None, option("--license", "License to note in the provenance.", "TEXT")] = None,
    profile: options.ProfileOption = "default",
) -> None:
    """Write prompts in the benchmark's format, and where they come from in FILE.provenance.json beside it."""
    from specbench.profile import load_profile
    from specbench.prompts import preparing, retrieval
    from specbench.prompts.lengths import TokenCounter
    from specbench.prompts.sources import choose_format, read_source
    from specbench.render import console
    from specbench.render.report.output import demand_place

    demand_place(out)
    filters = preparing.Filters(min_tokens, max_tokens, sample, seed)
    loaded = load_profile(profile)
    if source == retrieval.NAME:
        options.demand_alone(
            retrieval.NAME, {"--format": form, "--column": column, "--config": config, "--split": split}
        )
        lengths, counter = retrieval.lengths_of(tokens or "1024"), TokenCounter.of(loaded)
        found = retrieval.retrieval(lengths, needles or 3, seed, counter.count)
    else:
        options.demand_alone(f"the source {source}", {"--tokens": tokens, "--needles": needles})
        found = read_source(source, config, split, revision)
    chosen = choose_format(found, form, column, category)
    made = preparing.prepare(found, *chosen, filters, license, loaded, out)
    left_out = "".join(f", {count} left out: {reason}" for reason, count in made.dropped.items())
    console.out.print(f"{out}: {made.kept} of {made.read} prompts ({made.format}){left_out}", markup=False)


@app.command(
    "describe", epilog=examples("specbench prompts describe", "specbench prompts describe prompts.jsonl --json")
)
def describe(
    file: Annotated[str, argument("FILE", "Prompts file (default: the built-in prompts).")] = "builtin",
    profile: options.ProfileOption = "default",
    as_json: options.JsonOption = False,
) -> None:
    """Count prompts and tokens by category, with the tokenizer of the profile's target."""
    from dataclasses import asdict

    from specbench.profile import load_profile
    from specbench.prompts.describing import describe_file
    from specbench.render import console
    from specbench.render.prompts import described

    found = describe_file(file, load_profile(profile))
    if as_json:
        console.print_json(asdict(found))
    else:
        console.out.print(*described(found), sep="\n")
