"""The manifest of a run that is about to start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from specbench.api import Method, Options
from specbench.benchmark.chat_form import ChatForm
from specbench.benchmark.preparation import Prepared, model_files
from specbench.cloud.link.link_trace import trace_sha256
from specbench.profile import Profile
from specbench.registry import blaming
from specbench.results import environment
from specbench.results.conditions import surroundings
from specbench.results.provenance import MethodSource
from specbench.results.records import Manifest


def new_manifest(
    prepared: Prepared,
    run_id: str,
    profile_name: str,
    command: Sequence[str],
    sources: dict[str, MethodSource],
) -> Manifest:
    """The manifest of a run that is about to start."""
    import torch

    profile = prepared.profile.model_dump(mode="json")
    profile["methods"] = _own_settings(prepared)
    names = [method.name for method in prepared.methods]
    return Manifest(
        run_id=run_id,
        profile_name=profile_name,
        profile=profile,
        methods=tuple(names),
        lossless={method.name: _lossless(method, prepared.profile) for method in prepared.methods},
        prompt_ids=tuple(prompt.prompt_id for prompt in prepared.prompts),
        prompts_sha256=prepared.prompts_sha256,
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=tuple(environment.encodable(word) for word in command),
        versions=environment.versions(),
        plugins={name: source.version for name, source in sources.items()},
        sources=sources,
        machine=environment.machine(),
        threads=torch.get_num_threads(),
        models=model_files(prepared),
        repeats_control={
            method.name: _repeats_control(method, prepared.profile) for method in prepared.methods
        },
        own_passes=tuple(method.name for method in prepared.methods if method.own_passes),
        trace_sha256=trace_sha256(prepared.profile.link.trace) if prepared.profile.link.trace else None,
        stop_ids=tuple(sorted(prepared.stop_ids)),
        references={prompt.prompt_id: prompt.references for prompt in prepared.prompts if prompt.references},
        turns={prompt.prompt_id: prompt.turns for prompt in prepared.prompts},
        tasks={prompt.prompt_id: prompt.task for prompt in prepared.prompts if prompt.task},
        prefills={
            prompt.prompt_id: text
            for prompt in prepared.prompts
            if (text := ChatForm.of(prepared.profile.workload, prompt, None).prefill)
        },
        files={
            prompt.prompt_id: tuple(replace(file, path=None) for file in prompt.files)
            for prompt in prepared.prompts
            if prompt.files
        },
        directory=str(Path.cwd()),
        remarks=prepared.remarks,
        surroundings=surroundings(),
    )


def _own_settings(prepared: Prepared) -> dict[str, dict]:
    """By method, all options of its own with their values; of methods without any nothing."""
    options = Options.of(prepared.profile)
    return {
        method.name: method.own(options, method.settings).model_dump(mode="json")
        for method in prepared.methods
        if method.settings.model_fields
    }


def _lossless(method: Method, profile: Profile) -> bool | None:
    """Whether the text is the cloud's for certain; not where the draft may have to go on without it."""
    with blaming(method):
        lossless = method.lossless(Options.of(profile))
    return False if lossless and _may_go_on_alone(method, profile) else lossless


def _repeats_control(method: Method, profile: Profile) -> bool:
    with blaming(method):
        return method.repeats_control(Options.of(profile)) and not _may_go_on_alone(method, profile)


def _may_go_on_alone(method: Method, profile: Profile) -> bool:
    return profile.cloud.on_cloud_loss == "edge_only" and set(method.roles) == {"edge", "cloud"}
