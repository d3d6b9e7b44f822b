"""The answers of a stored run in pieces, decoded with the tokenizer of the run's target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from specbench.errors import SpecbenchError, nearest
from specbench.profile import Profile
from specbench.profile.loading import validated
from specbench.results.authors import Piece, pieces
from specbench.results.records import Generation, Run
from specbench.speculation.stop_strings import text_of

Written = tuple[Generation, list[Piece]]


def chosen(run: Run, prompt: str | None, method: str | None) -> list[Generation]:
    """The answers to one prompt, or to all, of one method or of all that draft; first repeats only.

    Raises:
        SpecbenchError: the run has no such prompt or method, or no answer.
    """
    if not run.generations:
        raise SpecbenchError(
            f"run {run.manifest.run_id} has no answers", "go on with it: specbench run --resume ID"
        )
    prompts = dict.fromkeys(each.prompt_id for each in run.generations)
    methods = dict.fromkeys(each.method for each in run.generations)
    if prompt is not None and prompt not in prompts:
        raise SpecbenchError(f"run {run.manifest.run_id} has no prompt {prompt}", nearest(prompt, prompts))
    if method is not None and method not in methods:
        raise SpecbenchError(f"run {run.manifest.run_id} has no method {method}", nearest(method, methods))
    drafting = {each.method for each in run.generations if each.drafted} or set(methods)
    wanted = {method} if method is not None else drafting
    found = [each for each in run.generations if each.method in wanted and not each.repeat]
    return [each for each in found if prompt in (None, each.prompt_id)]


def in_pieces(run: Run, found: Sequence[Generation]) -> list[Written]:
    """Answers of a run, each with its pieces.

    Raises:
        SpecbenchError: the tokenizer of the run's target is not to be found.
    """
    decode = _decoder(run)
    return [(each, list(pieces(each, decode))) for each in found]


def _decoder(run: Run) -> Callable[[Sequence[int]], str]:
    spec = validated(Profile, run.manifest.profile, f"the profile of run {run.manifest.run_id}").cloud

    from specbench.models.files import locate
    from specbench.models.loading import load_tokenizer

    tokenizer = load_tokenizer(locate(spec, weights=False), spec)
    return lambda tokens: text_of(tokenizer, tokens, special=True)
