"""Whether the cloud that answers is the one that the profile means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from specbench.cloud.transport.facts import Facts, ServedProfile
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


def _differences(
    facts: Facts, spec: CloudSpec, engine: EngineSpec, folder: Path
) -> Iterator[tuple[str, object, object]]:
    from specbench.models import files

    there, ours = facts.profile, ServedProfile.of(spec, engine)
    if ours.threads is None:
        ours = replace(ours, threads=there.threads)
    if ours.engine == "auto":
        ours = replace(ours, engine=there.engine)
    if ours.sha256 != facts.profile_sha256:
        yield ours.difference(there) or ("its hash", ours.sha256[:12], facts.profile_sha256[:12])
    files_here = files.fingerprint(folder)
    for name in sorted(files_here.keys() & facts.files.keys()):
        if files_here[name] != facts.files[name]:
            yield f"the model's {name}", f"{files_here[name][:12]}…", f"{facts.files[name][:12]}…"
    if not files_here.keys() & facts.files.keys():
        yield "the model", ", ".join(sorted(files_here)), ", ".join(sorted(facts.files))
