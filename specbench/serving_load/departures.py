"""Answers under load that differ from the server's own, as ties or otherwise."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from specbench.api import Options, SpecbenchError
from specbench.benchmark import conversation
from specbench.benchmark.identity import TIE, Prover
from specbench.benchmark.preparation import Prepared
from specbench.results.records import CONTROL, Divergence, Generation
from specbench.serving_load.edges import Answer, Asked

logger = logging.getLogger(__name__)


def departures(
    prepared: Prepared,
    asked: Sequence[Asked],
    answers: dict[str, list[Answer]],
) -> dict[str, tuple[int, int] | None]:
    """By method, the number of texts that differ from the server's own as ties, and the number of others.

    A shared pass is as wide as all its texts together, which nobody can repeat; a tie is proven with the
    widths that the text would have had alone.

    Args:
        answers: by way, of all the methods that were prepared.

    Returns:
        `None` where the rule may say another text, and where nothing is proven.
    """
    options = Options.of(prepared.profile)
    requests = {conversation.request_sha256(one.request): one.request for one in asked}
    known = {one.generation.prompt_sha256: one.generation for one in answers[CONTROL]}
    prover = Prover(prepared.cloud, options, lambda record: requests[record.prompt_sha256])
    found: dict[str, tuple[int, int] | None] = dict.fromkeys(answers)
    for method in prepared.methods:
        if method.repeats_control(options):
            try:
                found[method.name] = _departures(prover, known, answers[method.name])
            except SpecbenchError as error:  # what was measured is not lost with it
                logger.info(f"the texts of {method.name} are not compared with the control's: {error.message}")
    return found


def _departures(prover: Prover, known: Mapping[str, Generation], answers: Sequence[Answer]) -> tuple[int, int]:
    proofs: dict[tuple, Divergence | None] = {}
    ties = others = 0
    for record in (one.generation for one in answers):
        base = known[record.prompt_sha256]
        key = base.tokens, record.prompt_sha256, record.tokens
        if record.tokens == base.tokens:
            continue
        if key not in proofs:
            proofs[key] = prover.judge(base, record)
        proof = proofs[key]
        is_tie = proof is not None and proof.verdict == TIE
        ties, others = ties + is_tie, others + (not is_tie)
    return ties, others
