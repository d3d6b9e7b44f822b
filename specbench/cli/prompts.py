"""`specbench prompts`: make a prompts file from what people have, and describe one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli.app import App
from specbench.cli.options import JsonOption, ProfileOption, demand_alone, examples, show_help

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
    show_help(context)


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
        typer.Argument(
            metavar="NAME|FILE",
            help="A known data set such as gsm8k, hf:OWNER/NAME, a file (.jsonl, .json, .csv, .tsv, .parquet, "
            ".txt), a folder, or retrieval: long texts with codes to find.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Prompts file to write.")],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Format of the rows (default: by their columns)."),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="Column that holds the prompt.")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            "--category-column", metavar="NAME", help="With --column: column that holds the category."
        ),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="N,N", help="With retrieval: lengths of prompts (default: 1024)."),
    ] = None,
    needles: Annotated[
        int | None,
        typer.Option(
            "--needles", min=1, max=16, metavar="N", help="With retrieval: codes to find (default: 3)."
        ),
    ] = None,
    min_tokens: Annotated[
        int | None, typer.Option("--min-tokens", min=1, metavar="N", help="Shortest prompt to keep, in tokens.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, metavar="N", help="Longest prompt to keep, in tokens.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, metavar="N", help="Draw N prompts, evenly from all categories."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the draw, and of what is made.")
    ] = 0,
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME", help="Configuration of a data set.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", metavar="NAME", help="Split of a data set.")] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Revision of a data set.")
    ] = None,
    license: Annotated[
        str | None, typer.Option("--license", metavar="TEXT", help="License to note in the provenance.")
    ] = None,
    profile: ProfileOption = "default",
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
        demand_alone(
            retrieval.NAME, {"--format": form, "--column": column, "--config": config, "--split": split}
        )
        lengths, counter = retrieval.lengths_of(tokens or "1024"), TokenCounter.of(loaded)
        found = retrieval.retrieval(lengths, needles or 3, seed, counter.count)
    else:
        demand_alone(f"the source {source}", {"--tokens": tokens, "--needles": needles})
        found = read_source(source, config, split, revision)
    chosen = choose_format(found, form, column, category)
    made = preparing.prepare(found, *chosen, filters, license, loaded, out)
    left_out = "".join(f", {count} left out: {reason}" for reason, count in made.dropped.items())
    console.out.print(f"{out}: {made.kept} of {made.read} prompts ({made.format}){left_out}", markup=False)


@app.command(
    "describe", epilog=examples("specbench prompts describe", "specbench prompts describe prompts.jsonl --json")
)
def describe(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Prompts file (default: the built-in prompts).")
    ] = "builtin",
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
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
