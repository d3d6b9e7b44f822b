"""What prompts with images or sounds ask of methods, settings and models, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.api import CloudModel, EdgeModel, Method
from specbench.benchmark.prompt_files import Shown
from specbench.errors import SpecbenchError, naming
from specbench.profile import Profile
from specbench.results.records import Prompt

LEAVE_OUT = "leave out the prompts with an image or audio"


def showing(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that show an image or a sound."""
    return [prompt for prompt in prompts if prompt.files]


def demand_texts(prompts: Sequence[Prompt], what: str) -> None:
    """Refuse prompts with images or sounds.

    Args:
        what: that takes none, as the end of a sentence.

    Raises:
        SpecbenchError: naming the first one.
    """
    for prompt in showing(prompts):
        raise SpecbenchError(
            f"prompt {prompt.prompt_id} shows {_named(prompt)}, and {what} takes text alone", LEAVE_OUT
        )


def demand_media(
    profile: Profile, methods: Sequence[Method], prompts: Sequence[Prompt], edge: EdgeModel, cloud: CloudModel
) -> None:
    """Refuse methods, settings and models that cannot read what prompts show.

    Raises:
        SpecbenchError: naming the first one.
    """
    shown = showing(prompts)
    if not shown:
        return
    drafts = any("edge" in method.roles for method in methods)
    refused = {
        "engine.kind: compiled": (profile.engine.kind == "compiled", "engine.kind=eager"),
        "cloud.backend: openai": (profile.cloud.backend == "openai", None),
        "cloud.parallel": (profile.cloud.ranks > 1, "cloud.parallel=null"),
        "a draft that drafts text (speculative.cross_vocabulary: slem)": (
            edge.retokenizer is not None,
            "speculative.cross_vocabulary=tli",
        ),
        "a draft that reads hidden states": (drafts and edge.reads_features, None),
        **{method.name: (not method.takes_media, None) for method in methods},
    }
    for name, (is_so, way_out) in refused.items():
        if is_so:
            raise SpecbenchError(
                f"prompt {shown[0].prompt_id} shows {_named(shown[0])}, which {name} does not read",
                f"add --set {way_out}" if way_out else f"{LEAVE_OUT}, or leave out {name}",
            )
    for prompt in shown:
        with naming(f"prompt {prompt.prompt_id}"):
            for file in prompt.files:
                cloud.media_reader.placeholder_id(file.kind)


def drafting(
    profile: Profile, methods: Sequence[Method], prompts: Sequence[Prompt], edge: EdgeModel, cloud: CloudModel
) -> tuple[bool, str | None]:
    """Whether the edge's model reads what prompts show: where its processor makes the same tokens of all of it.

    Returns:
        That, and a remark about it where a method drafts with it and a prompt shows something.

    Raises:
        SpecbenchError: the target's processor cannot read a file.
    """
    shown = showing(prompts)
    if not shown or not any("edge" in method.roles for method in methods):
        return False, None
    spec = profile.edge
    reason = "it is quantised, in llama.cpp, or has a vocabulary of its own"
    if spec.backend == "transformers" and spec.quantization is None and edge.draft_vocabulary is None:
        wanted = [_tokens(prompt, cloud) for prompt in shown]
        try:
            if wanted == [_tokens(prompt, edge) for prompt in shown]:
                return True, "the draft reads the images and sounds of prompts, as the target does"
            reason = "its processor makes other tokens of them"
        except SpecbenchError as error:  # it has no processor, or one for other files, or lacks a package
            reason = f"{error.message}; {error.hint}"
    left_out = "what stands for them is left out there"
    return False, f"the draft reads prompts without their images and sounds, and {left_out} ({reason})"


def _tokens(prompt: Prompt, model: EdgeModel | CloudModel) -> list[int]:
    """The tokens of a prompt's files alone, by the processor of a model."""
    with naming(f"prompt {prompt.prompt_id}"):
        shown = Shown.of(prompt, model)
        assert shown is not None
        return shown.reader.tokens_of(shown.up_to(len(prompt.turns)))


def _named(prompt: Prompt) -> str:
    """What its first file is, in words."""
    return {"image": "an image", "audio": "audio"}[prompt.files[0].kind]
