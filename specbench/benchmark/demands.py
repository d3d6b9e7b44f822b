"""What methods and settings need of each other, and of the models, before anything is loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from specbench.api import RULES, Method, Speculative
from specbench.benchmark.media_demands import showing
from specbench.errors import ExitCode, SpecbenchError, naming
from specbench.profile import Profile
from specbench.profile.loading import with_changes
from specbench.results.records import Prompt
from specbench.speculation.grammar import Grammar

logger = logging.getLogger(__name__)


def with_engine_of(profile: Profile, methods: Sequence[Method], prompts: Sequence[Prompt]) -> Profile:
    """The profile, whose `auto` engine is eager where methods or prompts need that; a line says so."""
    needing = [method.name for method in methods if method.needs_eager]
    if profile.engine.kind != "auto" or not (needing or showing(prompts)):
        return profile
    names = " and ".join(needing)
    reason = f"{names} needs transformers' own passes" if needing else "prompts show images or sounds"
    logger.info("the models run eagerly, because %s (engine.kind: auto)", reason)
    return with_changes(profile, settings={"engine.kind": "eager"})


def demand_text(methods: Sequence[Method], speculative: Speculative) -> None:
    """Refuse what needs more of a draft than text: its tokens, or how likely they are.

    Raises:
        SpecbenchError: a method or an option does.
    """
    for method in methods:
        if "edge" in method.roles and not getattr(method, "takes_text", False):
            raise SpecbenchError(
                f"speculative.cross_vocabulary: slem drafts text, and {method.name} reads tokens",
                "add --set speculative.cross_vocabulary=tli, or run speculative",
            )
    needed = {
        f"speculative.verification: {speculative.verification}": RULES[speculative.verification].proposes
        == "sample",
        "speculative.gate": speculative.gate is not None,
        "speculative.confidence_stop": speculative.confidence_stop is not None,
    }
    for name, is_needed in needed.items():
        if is_needed:
            raise SpecbenchError(
                f"{name} needs the draft's probabilities, and speculative.cross_vocabulary: slem drafts text",
                "add --set speculative.cross_vocabulary=tli",
            )


def demand_known(biased: Iterable[int], size: int) -> None:
    """Refuse a bias on what is no token.

    Raises:
        SpecbenchError: naming the id.
    """
    if unknown := [token for token in biased if token >= size]:
        raise SpecbenchError(
            f"decoding.logit_bias: token id {unknown[0]} is outside the target's vocabulary of {size}",
            "name ids of the target's tokenizer",
            ExitCode.PROFILE,
        )


def demand_torch(profile: Profile, methods: Sequence[Method]) -> None:
    """Refuse a method that calls the edge's model itself, where that is none of transformers'.

    Raises:
        SpecbenchError: a method does.
    """
    for method in methods:
        if profile.edge.backend != "transformers" and "edge" in method.roles and method.own_passes:
            raise SpecbenchError(
                f"edge.backend: {profile.edge.backend} is not supported by {method.name}, whose passes are "
                "transformers' own",
                f"leave {method.name} out, or add --set edge.backend=transformers",
            )


def demand_cloud(profile: Profile, methods: Sequence[Method]) -> None:
    """Refuse to go on without the cloud where drafts are made of what only the target sends.

    Raises:
        SpecbenchError: a method's are.
    """
    for method in methods:
        if profile.cloud.on_cloud_loss == "edge_only" and getattr(method, "reads_features", False):
            raise SpecbenchError(
                f"cloud.on_cloud_loss: edge_only is not supported by {method.name}, whose draft reads hidden "
                "states of the target",
                "add --set cloud.on_cloud_loss=fail or --set cloud.on_cloud_loss=wait",
            )


def demand_grammars(
    profile: Profile, grammars: Sequence[Grammar | None], prompts: Sequence[Prompt]
) -> str | None:
    """Compile what answers may be, and refuse settings that contradict it.

    Args:
        grammars: by prompt.

    Returns:
        How many prompts have a grammar, where any has one.

    Raises:
        SpecbenchError: a grammar cannot be compiled, or not be kept to.
    """
    having = [(grammar, prompt) for grammar, prompt in zip(grammars, prompts, strict=True) if grammar]
    if not having:
        return None
    refused = {
        "cloud.backend: openai": profile.cloud.backend == "openai",
        "decoding.ignore_eos": profile.decoding.ignore_eos,
        "decoding.min_new_tokens": profile.decoding.min_new_tokens > 0,
    }
    reasons = ("is not told of grammars", "lets no answer end", "keeps a complete answer from ending")
    for (key, is_set), reason in zip(refused.items(), reasons, strict=True):
        if is_set:
            raise SpecbenchError(
                f"prompt {having[0][1].prompt_id} has a grammar, and {key} {reason}",
                "leave one of the two out (grammar in the line, or workload.grammar)",
                ExitCode.PROFILE,
            )
    for grammar, prompt in having:
        with naming(f"prompt {prompt.prompt_id}"):
            grammar.constraint()
    kinds = sorted({grammar.kind for grammar, _ in having})
    return f"the answers to {len(having)} of {len(prompts)} prompts follow a grammar ({', '.join(kinds)})"
