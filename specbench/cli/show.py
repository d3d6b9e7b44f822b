"""`specbench show`: the answers of a stored run, with the author of each token."""

from __future__ import annotations

from typing import Annotated

import typer

from specbench.cli.options import A_RUN, RUNS_DIR, JsonOption, RunsDirOption

EXAMPLES = ("specbench show latest --prompt 1", "specbench show latest --prompt 1 --method speculative")


def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help=f"Run: {A_RUN} (default: the newest run).")
    ] = "latest",
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="ID", help="Prompt to show (default: the run's first one)."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="Method to show (default: all that draft).")
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show an answer, and which of its tokens the draft wrote and which the target."""
    from specbench.benchmark.stored_answers import answers
    from specbench.render import console
    from specbench.render.answers import answer
    from specbench.results.store import RunStore

    store = RunStore(runs_dir)
    found = answers(store.read(store.find(run)), prompt, method)
    if as_json:
        keys = ("method", "prompt_id", "turn", "repeat")
        console.print_json(
            {
                "answers": [
                    {**{key: getattr(each, key) for key in keys}, "pieces": [part._asdict() for part in parts]}
                    for each, parts in found
                ]
            }
        )
        return
    for each, parts in found:
        console.out.print(answer(each, parts, coloured=console.out.is_terminal and not console.out.no_color))
