"""`specbench show`: the answers of a stored run, with the author of each token."""

from __future__ import annotations

from typing import Annotated

from specbench.cli import options
from specbench.cli.options import A_RUN, RUNS_DIR, argument, option

EXAMPLES = ("specbench show latest --prompt 1", "specbench show latest --wrong --method speculative")


def show(
    run: Annotated[str, argument("RUN", f"Run: {A_RUN} (default: the newest run).")] = "latest",
    prompt: Annotated[
        str | None, option("--prompt", "Prompt to show (default: the run's first one).", "ID")
    ] = None,
    method: Annotated[
        str | None, option("--method", "Method to show (default: all that draft).", "NAME")
    ] = None,
    wrong: Annotated[
        bool, option("--wrong", "Show all answers that are checked and not right, whatever the prompt.")
    ] = False,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Show answers, and which of their tokens the draft wrote and which the target."""
    from specbench.benchmark.stored_answers import chosen, in_pieces
    from specbench.render import console
    from specbench.render.answers import answer
    from specbench.results.store import RunStore
    from specbench.stats.task_scores import answer_score, is_wrong

    store = RunStore(runs_dir)
    stored = store.read(store.find(run))
    if wrong:
        options.demand_alone("--wrong", {"--prompt": prompt})
        records = [each for each in chosen(stored, None, method) if is_wrong(each, stored.manifest.tasks)]
        console.note(f"{len(records)} answers are checked and not right")
    else:
        records = chosen(stored, prompt, method)
        records = [each for each in records if each.prompt_id == records[0].prompt_id]
    found = in_pieces(stored, records) if records else []
    if as_json:
        keys = ("method", "prompt_id", "turn", "repeat")
        console.print_json(
            {
                "answers": [
                    {
                        **{key: getattr(each, key) for key in keys},
                        "prefill": stored.manifest.prefills.get(each.prompt_id),
                        "score": answer_score(each, stored.manifest.tasks),
                        "pieces": [part._asdict() for part in parts],
                    }
                    for each, parts in found
                ]
            }
        )
        return
    coloured = console.out.is_terminal and not console.out.no_color
    for each, parts in found:
        console.out.print(answer(each, parts, stored.manifest, coloured))
