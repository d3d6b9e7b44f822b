"""Behind the last prompt: every text is held against the control's, and the control's against the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specbench.api import Options, Request
from specbench.benchmark import identity, recomputing
from specbench.benchmark.failing import reason_of
from specbench.benchmark.preparation import Prepared
from specbench.errors import CloudLostError
from specbench.results.records import CONTROL, Generation, Manifest


def hold(manifest: Manifest, prepared: Prepared, generations: Sequence[Generation]) -> Manifest:
    """The manifest with every difference, or with the reason why they could not be looked for.

    The last of several restarts looks for those of all.

    Raises:
        CloudLostError: the cloud is gone.
    """
    if prepared.awaits_restarts:
        return manifest
    methods = [name for name, repeats in manifest.repeats_control.items() if repeats]

    def request_of(generation: Generation) -> Request:
        """What a generation answered, its method's own earlier replies before it."""
        asked = generation.method, generation.prompt_id, generation.repeat
        mine = {
            record.turn: record.text
            for record in generations
            if (record.method, record.prompt_id, record.repeat) == asked
        }
        prompt = next(p for p in prepared.prompts if p.prompt_id == generation.prompt_id)
        replies = tuple(mine[turn] for turn in range(generation.turn))
        return prepared.request(prompt, generation.turn, generation.repeat, replies)

    prover = identity.Prover(prepared.cloud, Options.of(prepared.profile), request_of)
    try:
        found = identity.divergences(generations, CONTROL, methods, prover)
        held, wrong = recomputing.hold(generations, CONTROL, prover)
    except CloudLostError:
        raise
    except Exception as error:  # what was measured is not lost with the proof of it
        reason = f"texts could not be held against the control's: {reason_of(error)}"
        return replace(manifest, unchecked=(reason,))
    return replace(manifest, divergences=(*wrong, *found), recomputation=held)
