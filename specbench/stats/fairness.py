"""What was equal for all methods, and what was not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbench import precision
from specbench.benchmark.differences import SOURCE, differences
from specbench.precision import side_of
from specbench.profile import Decoding
from specbench.profile.loading import validated
from specbench.results.records import Manifest, Run
from specbench.stats.comparison import MODEL_GENERATE, may_differ

PROMPTS = (
    "prompts", "workload.prompts", "workload.limit", "workload.system", "workload.prefill",
    "workload.chat_template", "workload.chat_template_kwargs", "workload.grammar",
)  # fmt: skip
EQUAL, ON_PURPOSE, NOT_EQUAL, UNKNOWN = "equal", "differs on purpose", "not equal", "unknown"


@dataclass(frozen=True)
class Held:
    """One thing that figures depend on: what it was, and whether it was the same for all methods."""

    subject: str
    value: str
    held: str


def fairness(runs: Sequence[Run], findings: Sequence[precision.Finding]) -> list[Held]:
    """One row per subject: equal, different on purpose, or not equal.

    Within a run all methods share one process, one profile and one order, so that only runs can differ from
    each other. What differs between them stands in the row of its subject, with the values of both.

    Args:
        findings: of the precision audit, over all runs.
    """
    first = runs[0].manifest
    found = {
        key: (f"{key} is {left} in run {first.run_id} and {right} in run {run.manifest.run_id}",
              ON_PURPOSE
              if may_differ(key, first, run.manifest) and not key.startswith(SOURCE) else NOT_EQUAL)
        for run in runs[1:]
        for key, left, right in differences(first, run.manifest)
    }  # fmt: skip
    rows = []
    for subject, value, prefixes in _subjects(first):
        mine = [key for key in found if any(key == p or key.startswith((f"{p}.", f"{p}:")) for p in prefixes)]
        told = [found.pop(key) for key in mine]
        held = EQUAL
        for _, verdict in told:
            held = NOT_EQUAL if NOT_EQUAL in (held, verdict) else verdict
        rows.append(Held(subject, "; ".join([value, *(text for text, _ in told)]), held))
    rows += [Held(key, text, verdict) for key, (text, verdict) in found.items()]
    return [*rows, *_beyond_settings(runs), _audited(runs, findings)]


def _subjects(first: Manifest) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What is held equal: its name, its value, and the settings that belong to it."""
    profile, workload = first.profile, first.profile["workload"]
    for role in ("cloud", "edge"):
        if role in first.models or not first.models:
            part = profile[role]
            layers = f" (layers used: {part['layers']})" if part.get("layers") else ""
            value = f"{part.get('model', 'unknown')}{layers}, {side_of(first, role)}"
            yield f"{role} model", value, (role, f"models.{role}")
    prompts = f"{len(first.prompt_ids)} prompts"
    if first.prompts_sha256:
        prompts += f" ({first.prompts_sha256[:8]})"
    yield "prompts", prompts, PROMPTS
    yield "budget", f"at most {workload['max_new_tokens']} tokens an answer", ("workload.max_new_tokens",)
    yield "sampling", _sampling(profile["decoding"]), ("decoding", "workload.seed")
    stops = ", ".join(map(str, first.stop_ids)) or "none recorded"
    yield "stop tokens", stops, ("stop_ids",)
    engines = ", ".join(f"{role}: {kind}" for role, kind in sorted(first.engines.items()))
    kinds = ("engine", "the cloud's engine", "the edge's engine")
    yield "engine", engines or profile["engine"].get("kind", "unknown"), kinds
    yield "threads", str(first.threads), ("threads",)
    yield "machine", str(first.machine.get("cpu") or "unknown"), ("machine",)
    libraries = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    yield "versions", libraries or "unknown", ("versions",)


def _sampling(decoding: dict) -> str:
    if decoding["temperature"] == 0:
        plain = "greedy (temperature 0)"
    else:
        kept = [f"{name} {decoding[name]}" for name in ("top_p", "top_k") if name in decoding]
        plain = ", ".join([f"temperature {decoding['temperature']}", *kept])
    others = validated(Decoding, decoding, "a stored profile").beyond("temperature", "top_p", "top_k")
    return ", ".join([plain, *(f"{name.replace('_', ' ')} {value}" for name, value in others.items())])


def _beyond_settings(runs: Sequence[Run]) -> Iterator[Held]:
    """What follows from how runs are made: drafting, order, loop, precision of the pair."""
    first = runs[0].manifest
    yield Held("how tokens are drafted", "this is what is compared", ON_PURPOSE)
    workload, precision = first.profile["workload"], first.profile["precision"]
    repeats = workload.get("repeats", 1)
    times = "once" if repeats == 1 else f"{repeats} times"
    if (restarts := workload.get("restarts", 1)) > 1:
        times += f" in each of {restarts} processes"
    order = f"all methods answer a prompt in a row, in a seeded order, {times}"
    if len(runs) > 1:
        yield Held("order", f"{order}; but the runs were measured one after the other", NOT_EQUAL)
    else:
        yield Held("order", order, EQUAL)
    # Runs that were stored before methods declared it know of one.
    known = {name for run in runs for name in (*run.manifest.own_passes, MODEL_GENERATE)}
    own = dict.fromkeys(name for run in runs for name in run.manifest.methods if name in known)
    if own:
        loop = "calls the model itself (transformers' loop); context, not the control"
        yield Held("decode loop", f"{', '.join(own)}: {loop}", NOT_EQUAL)
    unverified = dict.fromkeys(name for run in runs for name in run.manifest.unverified)
    if unverified:
        yield Held("work done for the tokens", f"not verified for {', '.join(unverified)}", UNKNOWN)
    sides = [side_of(first, role) for role in ("edge", "cloud")]
    parity = precision["parity"]
    if not first.models or first.models.keys() >= {"edge", "cloud"}:
        alike = EQUAL if sides[0] == sides[1] else ON_PURPOSE if parity == "per_role" else NOT_EQUAL
        yield Held("precision of edge and cloud", f"{sides[0]} and {sides[1]} (rule: {parity})", alike)


def _audited(runs: Sequence[Run], findings: Sequence[precision.Finding]) -> Held:
    """The precision audit in one row."""
    if findings:
        differs = precision.verdict(findings) == precision.DIFFERS
        return Held("precision audit", findings[0].message, NOT_EQUAL if differs else UNKNOWN)
    counts = {
        f"{found.role} {sum(group.tensors for group in (*found.parameters, *found.buffers))}"
        for run in runs
        for found in run.manifest.audits
    }
    value = f"tensors read: {', '.join(sorted(counts))}; caches, logits and switches too, at start and end"
    return Held("precision audit", value, EQUAL)
