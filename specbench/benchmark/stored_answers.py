"""The answers of a stored run in pieces, decoded with the tokenizer of the run's target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from specbench.errors import SpecbenchError, nearest
from specbench.profile import Profile
from specbench.profile.loading import validated
from specbench.results.authors import Piece, pieces
from specbench.results.records import Generation, Run


def answers(run: Run, prompt: str | None, method: str | None) -> list[tuple[Generation, list[Piece]]]:
    """The answers to one prompt, of one method or of all that draft; first repeats only.

    Args:
        prompt: its id; the first one of the run where it is left out.

    Raises:
        SpecbenchError: the run has no such prompt or method, or its target's tokenizer is not to be found.
    """
    if not run.generations:
        raise SpecbenchError(
            f"run {run.manifest.run_id} has no answers", "go on with it: specbench run --resume ID"
        )
    prompts = dict.fromkeys(each.prompt_id for each in run.generations)
    methods = dict.fromkeys(each.method for each in run.generations)
    wanted = prompt if prompt is not None else next(iter(prompts))
    if wanted not in prompts:
        raise SpecbenchError(f"run {run.manifest.run_id} has no prompt {wanted}", nearest(wanted, prompts))
    if method is not None and method not in methods:
        raise SpecbenchError(f"run {run.manifest.run_id} has no method {method}", nearest(method, methods))
    drafting = {each.method for each in run.generations if each.drafted} or set(methods)
    chosen = {method} if method is not None else drafting
    decode = _decoder(run)
    return [
        (each, list(pieces(each, decode)))
        for each in run.generations
        if each.prompt_id == wanted and each.method in chosen and not each.repeat
    ]


def _decoder(run: Run) -> Callable[[Sequence[int]], str]:
    from specbench.models.files import locate
    from specbench.models.loading import load_tokenizer

    spec = validated(Profile, run.manifest.profile, f"the profile of run {run.manifest.run_id}").cloud
    tokenizer = load_tokenizer(locate(spec, weights=False), spec)
    return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=False))
