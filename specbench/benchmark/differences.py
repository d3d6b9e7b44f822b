"""What a run depends on, written down: settings, versions, machine; and what differs between two runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

from specbench import precision
from specbench.errors import ExitCode
from specbench.results.records import Manifest

# Memory differs by a few pages between boots of one machine; of where a job waited, and of what is paid for a
# machine, nothing that is measured depends.
INCIDENTAL = ("machine.memory_bytes", "cluster", "workload.keep_prompts", "prices")
SOURCE = "source of "
"""How the name begins that `differences` gives to code that is another."""


def outcome(manifest: Manifest) -> ExitCode:
    """What a run ends with whose results are stored: all well, or what they must not be read without."""
    if manifest.precision_problems and manifest.profile["precision"]["parity"] != "off":
        return ExitCode.CHECK_FAILED
    if manifest.failures or manifest.unchecked:
        return ExitCode.RUN
    is_wrong = any(found.verdict == "bug" for found in manifest.divergences)
    return ExitCode.IDENTITY if is_wrong else ExitCode.OK


UNSAID: dict[str, object] = {
    "speculative.window": 1, "decoding.min_p": 0.0, "decoding.presence_penalty": 0.0,
    "decoding.frequency_penalty": 0.0, "decoding.min_new_tokens": 0, "decoding.ignore_eos": False,
    "decoding.stop": [], "workload.restarts": 1,
}  # fmt: skip
"""What settings were in runs that are older than they are."""


def differences(
    left: Manifest, right: Manifest, ignoring: Sequence[str] = ()
) -> Iterator[tuple[str, object, object]]:
    """Every setting in which two runs differ: its name, the left value, the right value.

    Args:
        ignoring: settings, or whole parts of the profile, in which they may.
    """
    skip = {*ignoring, *INCIDENTAL}
    if all(run.profile.get("cloud", {}).get("placement", "").startswith("ws") for run in (left, right)):
        # A server has an address of its own for each job; its files, versions and machine are compared.
        skip.add("cloud.placement")
    shared = left.models.keys() & right.models.keys()  # a run that loads no edge says nothing about it
    skip |= set(_places_of_the_same(left, right))
    if left.engines.keys() & right.engines.keys():
        skip.add("engine.kind")  # what really ran is compared below
    both = left.profile.get("methods", {}).keys() & right.profile.get("methods", {}).keys()
    parts: list[tuple[str, Any, Any]] = [
        ("", _of(both, shared, left.profile), _of(both, shared, right.profile)),
        ("versions", left.versions, right.versions),
        ("machine", left.machine, right.machine),
        *((f"models.{role}", left.models[role], right.models[role]) for role in sorted(shared)),
    ]
    for prefix, ours, theirs in parts:
        mine, other = dict(_flat(ours, prefix)), dict(_flat(theirs, prefix))
        for key in [*mine, *(key for key in other if key not in mine)]:
            left_value, right_value = (values.get(key, UNSAID.get(key)) for values in (mine, other))
            if skip.isdisjoint((key, key.partition(".")[0])) and left_value != right_value:
                yield key, left_value, right_value
    yield from precision.differences(left, right)
    for role in sorted(left.engines.keys() & right.engines.keys()):
        if left.engines[role] != right.engines[role]:
            yield f"the {role}'s engine", left.engines[role], right.engines[role]
    yield from _source_differences(left, right)
    if left.trace_sha256 != right.trace_sha256:
        yield "the link's trace", (left.trace_sha256 or "none")[:8], (right.trace_sha256 or "none")[:8]
    if left.edge_device != right.edge_device:
        yield "what was applied of the edge device", left.edge_device, right.edge_device
    if left.threads != right.threads:
        yield "threads", left.threads, right.threads
    if left.stop_ids != right.stop_ids:
        yield "stop_ids", list(left.stop_ids), list(right.stop_ids)
    if left.prompts_sha256 != right.prompts_sha256:
        yield "prompts", _prompts_in_words(left), _prompts_in_words(right)


def _of(methods: Set[str], roles: Set[str], profile: dict) -> dict:
    """A profile without the options of methods, and the helpers of the edge, that one run lacks."""
    kept = {name: values for name, values in profile.get("methods", {}).items() if name in methods}
    edge = profile.get("edge", {})
    helpers = {
        name: spec for name, spec in (edge.get("helpers") or {}).items() if f"edge.helpers.{name}" in roles
    }
    return profile | {"methods": kept, "edge": edge | {"helpers": helpers or None}}


def _source_differences(left: Manifest, right: Manifest) -> Iterator[tuple[str, str, str]]:
    """Methods of both runs whose code is not the same; those that share theirs in one."""
    found: dict[tuple[str, str], list[str]] = {}
    for method, ours in left.sources.items():
        theirs = right.sources.get(method)
        if theirs and ours != theirs:
            found.setdefault((ours.in_words, theirs.in_words), []).append(method)
    for both, methods in found.items():
        yield f"{SOURCE}{', '.join(methods)}", *both


def _places_of_the_same(left: Manifest, right: Manifest) -> Iterator[str]:
    """Keys that say where something lies whose content both runs know: another place is no difference."""
    yield from ("cloud.offload_folder", "cloud.token_file")  # nothing that is measured depends on them
    if left.prompts_sha256 and right.prompts_sha256:
        yield from ("workload.prompts", "workload.chat_template")
    if left.trace_sha256 and right.trace_sha256:
        yield "link.trace"
    for role in left.models.keys() & right.models.keys():
        ours, theirs = left.models[role], right.models[role]
        if ours.get("files") and ours.get("files") == theirs.get("files"):
            yield f"{role}.model"
        if ours.get("vocab_map_sha256") and theirs.get("vocab_map_sha256"):
            yield f"{role}.vocab_map"


def _flat(value: dict, prefix: str) -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, dict):
            yield from _flat(item, name)
        else:
            yield name, item


def _prompts_in_words(run: Manifest) -> str:
    return f"{len(run.prompt_ids)} ({run.prompts_sha256[:8]})"
