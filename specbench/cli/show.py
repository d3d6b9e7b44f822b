"""`specbench show`: the answers of a stored run, with the author of each token."""

from __future__ import annotations

from typing import Annotated

from specbench.cli import options
from specbench.cli.options import A_RUN, RUNS_DIR, argument, option

EXAMPLES = ("specbench show latest --prompt 1", "specbench show latest --prompt 1 --method speculative")


def show(
    run: Annotated[str, argument("RUN", f"Run: {A_RUN} (default: the newest run).")] = "latest",
    prompt: Annotated[
        str | None, option("--prompt", "Prompt to show (default: the run's first one).", "ID")
    ] = None,
    method: Annotated[
        str | None, option("--method", "Method to show (default: all that draft).", "NAME")
    ] = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Show an answer, and which of its tokens the draft wrote and which the target."""
    from specbench.benchmark.stored_answers import answers
    from specbench.render import console
    from specbench.render.answers import answer
    from specbench.results.store import RunStore
    from specbench.stats.task_scores import answer_score

    store = RunStore(runs_dir)
    stored = store.read(store.find(run))
    found = answers(stored, prompt, method)
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
