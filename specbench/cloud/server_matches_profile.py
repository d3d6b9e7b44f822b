"""Whether the cloud that answers is the one that the profile means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from specbench.cloud.transport.facts import Facts
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import CloudSpec, EngineSpec


def demand_meant(facts: Facts, spec: CloudSpec, engine: EngineSpec, folder: Path) -> None:
    """Refuse a cloud that is not as declared.

    Args:
        folder: the edge's copy of the model's files; it may lack the weights.

    Raises:
        SpecbenchError: naming the first thing that differs, and both values.
    """
    difference = next(_differences(facts, spec, engine, folder), None)
    if difference:
        what, ours, theirs = difference
        raise SpecbenchError(
            f"the server does not match the profile: {what} is {ours} here, {theirs} there",
            "serve and run the same profile: specbench serve --profile NAME",
            ExitCode.MODEL,
        )


def demand_engine(draft: str, engine: EngineSpec) -> None:
    """Refuse a draft in the cloud that another engine runs than the profile's; `auto` takes either.

    Args:
        draft: what really runs its passes.

    Raises:
        SpecbenchError: it is another one, so its drafts would take another time.
    """
    if engine.kind not in (draft, "auto"):
        raise SpecbenchError(
            f"the cloud's draft does not match: engine.kind is {engine.kind} in the profile and {draft} there",
            f"add --set engine.kind={draft}, here and there",
            ExitCode.MODEL,
        )


def _kind_there(engine: EngineSpec, facts: Facts) -> str:
    """What the server was asked for; where one of both ends says `auto`, what it came to counts."""
    if engine.kind == "auto":
        return "auto"
    return facts.engine if facts.engine_kind == "auto" else facts.engine_kind


def _differences(
    facts: Facts, spec: CloudSpec, engine: EngineSpec, folder: Path
) -> Iterator[tuple[str, object, object]]:
    from specbench.models import files

    declared = [
        ("cloud.dtype", spec.dtype, facts.dtype),
        ("cloud.layers", spec.layers, facts.layers),
        ("cloud.parallel.tensor", spec.ranks, facts.ranks),
        ("cloud.batch.sessions", spec.batch.sessions, facts.sessions),
        ("engine.kind", engine.kind, _kind_there(engine, facts)),
        ("engine.batch_invariant", engine.batch_invariant, facts.batch_invariant),
    ]
    if spec.threads is not None:
        declared.append(("cloud.threads", spec.threads, facts.threads))
    if spec.batch.sessions > 1:  # else nobody waits for others
        declared.append(("cloud.batch.wait_ms", spec.batch.wait_ms, facts.wait_ms))
    yield from (item for item in declared if item[1] != item[2])
    ours = files.fingerprint(folder)
    for name in sorted(ours.keys() & facts.files.keys()):
        if ours[name] != facts.files[name]:
            yield f"the model's {name}", f"{ours[name][:12]}…", f"{facts.files[name][:12]}…"
    if not ours.keys() & facts.files.keys():
        yield "the model", ", ".join(sorted(ours)), ", ".join(sorted(facts.files))
