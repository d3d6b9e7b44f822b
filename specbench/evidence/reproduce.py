"""Runs a bundle again here, and holds what is measured against what it claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from specbench.benchmark.differences import differences
from specbench.benchmark.execution import execute
from specbench.benchmark.job import Job, new_job
from specbench.benchmark.observer import Observer
from specbench.benchmark.workload import with_prompts
from specbench.errors import ExitCode, RunError, SpecbenchError, StoreError, nearest
from specbench.evidence.agreement import Agreement, agreement
from specbench.evidence.bundle import Bundle, compared
from specbench.evidence.claims import Claim, answered
from specbench.evidence.needs import demand_here
from specbench.evidence.recheck import recheck
from specbench.profile import Profile
from specbench.profile.loading import overriding, validated, with_changes
from specbench.profile.paths import KEYS
from specbench.results.records import CONTROL, Manifest, Run, Surroundings
from specbench.results.store import RunStore
from specbench.stats.groups import groups_of

PLACES = (*KEYS, "cloud.placement")
"""Keys that say where something lies: they alone may be set anew."""
CHANGED_ANYWAY = ("memory", "workload.prompts", "workload.limit")
Watched = Callable[[], AbstractContextManager[Observer]]


@dataclass(frozen=True)
class Reproduced:
    """What came of it.

    Args:
        runs: the ids of the new runs, by that of the bundle's.
        environment: what differs: its name, its value there, its value here.
    """

    runs: dict[str, str]
    claims: tuple[Agreement, ...]
    environment: tuple[tuple[str, object, object], ...]

    @property
    def holds(self) -> bool:
        """Whether no claim is contradicted."""
        return all(each.agrees is not False for each in self.claims)


def reproduce(
    found: Bundle,
    store: RunStore,
    watched: Watched,
    claim_id: str | None = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    command: Sequence[str] = (),
) -> Reproduced:
    """Measure again what the claims rest on, with the same profile, prompts and methods.

    Args:
        store: gets the new runs.
        watched: makes an observer for a run.
        claim_id: the one claim to hold against it; all when absent.
        overrides: `key=value` for keys that say where something lies.
        plugins: files of methods of one's own.

    Raises:
        SpecbenchError: the bundle does not hold in itself, or something that it needs is not here.
    """
    if not recheck(found).holds:
        raise SpecbenchError(
            "the bundle's claims do not follow from its own rounds, so there is nothing to reproduce",
            "'specbench recheck' names the figures",
            ExitCode.CHECK_FAILED,
        )
    claims = _asked(found, claim_id)
    before = _needed(found, claims)
    jobs = [_job(run, found, store, overrides, plugins, command) for run in before]
    for run, job in zip(before, jobs, strict=True):
        demand_here(run.manifest, validated(Profile, job.profile, f"the profile of run {run.manifest.run_id}"))
    after = []
    for job in jobs:
        with watched() as observer:
            after.append(execute(job, observer))
        _demand_sound(after[-1].manifest)
    ids = {old.manifest.run_id: new.manifest.run_id for old, new in zip(before, after, strict=True)}
    return Reproduced(
        ids,
        tuple(_judged(claims, found, before, after)),
        tuple(dict.fromkeys(_environment(before, after))),
    )


def _demand_sound(manifest: Manifest) -> None:
    """Refuse to hold a run against a claim that failed, or had another precision than it declares."""
    told = [f"{each.method} failed: {each.error}" for each in manifest.failures]
    told += manifest.precision_problems if manifest.profile["precision"]["parity"] != "off" else ()
    if told:
        raise RunError(
            f"the new run {manifest.run_id} says nothing about the claims: {told[0]}",
            f"show it with 'specbench compare {manifest.run_id}'",
        )


def _asked(found: Bundle, claim_id: str | None) -> list[Claim]:
    claims = [claim for claim in found.claims if claim_id in (None, claim.id)]
    if not claims:
        known = [claim.id for claim in found.claims]
        raise SpecbenchError(
            f"the bundle has no claim '{claim_id}'" if claim_id else "the bundle has no claims",
            nearest(claim_id or "", known, "'specbench recheck' lists its claims"),
        )
    return claims


def _needed(found: Bundle, claims: Sequence[Claim]) -> list[Run]:
    """The runs that these claims are about, and those that have their control; all where that is not clear."""
    groups = groups_of(found.runs)
    needed: set[str] = set()
    for claim in claims:
        mine = [group for group in groups if _names(claim.query, group.name)]
        if not mine:
            return list(found.runs)
        own = mine[0].run
        having = [run for run in (own, *found.runs) if run.of(CONTROL)]
        needed |= {own.manifest.run_id, *(run.manifest.run_id for run in having[:1])}
    return [run for run in found.runs if run.manifest.run_id in needed]


def _names(query: str, row: str) -> bool:
    return query.startswith(f"methods/{row}/") or f"/method={row}/" in query


def _job(
    run: Run,
    found: Bundle,
    store: RunStore,
    overrides: Sequence[str],
    plugins: Sequence[Path],
    command: Sequence[str],
) -> Job:
    manifest = run.manifest
    for key, _ in overriding(overrides):
        if key not in PLACES and not (
            key.startswith("edge.helpers.") and key.endswith((".model", ".vocab_map"))
        ):
            raise SpecbenchError(
                f"--set {key} would change what is measured",
                f"only what says where something lies can be set: {', '.join(PLACES)}",
            )
    if manifest.is_tuning:
        raise StoreError(
            f"run {manifest.run_id} measures candidates of a tuning, and is not run again",
            "tune again with the command of its manifest",
        )
    prompts = found.prompts.get(manifest.run_id)
    if prompts is None:
        raise StoreError(
            f"the prompts of run {manifest.run_id} are not in the bundle: their file was gone when it was made",
            "make the bundle where the prompts are",
        )
    profile = validated(Profile, manifest.profile, f"the profile of run {manifest.run_id}")
    profile = with_changes(profile, overrides)
    return new_job(
        store,
        with_prompts(profile, prompts, store.folder),
        manifest.profile_name,
        manifest.methods,
        plugins=plugins,
        only=True,  # the control is among its methods, or was left out
        command=command,
    )


def _judged(
    claims: Sequence[Claim], found: Bundle, before: Sequence[Run], after: Sequence[Run]
) -> Iterator[Agreement]:
    """Each claim beside the same figure of the new runs."""
    document = compared(after, found.allow_unfair)
    theirs = {(group.run.manifest.run_id, group.method): group for group in groups_of(found.runs)}
    ours = {(group.run.manifest.run_id, group.method): group for group in groups_of(after)}
    ids = {old.manifest.run_id: new.manifest.run_id for old, new in zip(before, after, strict=True)}
    for claim in claims:
        query, both = claim.query, None
        for (run_id, method), group in theirs.items():
            mine = ours.get((ids.get(run_id, ""), method))
            if mine and _names(query, group.name):
                query = query.replace(f"methods/{group.name}/", f"methods/{mine.name}/")
                query = query.replace(f"/method={group.name}/", f"/method={mine.name}/")
                both = group, mine
                break
        here = answered(replace(claim, query=query), document)
        yield agreement(claim, here, both, before, after)


def _environment(before: Sequence[Run], after: Sequence[Run]) -> Iterator[tuple[str, object, object]]:
    for old, new in zip(before, after, strict=True):
        yield from differences(old.manifest, new.manifest, CHANGED_ANYWAY)
        yield from _around(old.manifest, new.manifest)


def _around(old: Manifest, new: Manifest) -> Iterator[tuple[str, object, object]]:
    """Packages, code and processor; what one of them does not know is left out."""
    there, here = old.surroundings, new.surroundings
    if not there or not here:
        return
    known = {name for name in there.packages if name in old.versions}
    for name in sorted(({*there.packages, *here.packages}) - known):
        both = there.packages.get(name), here.packages.get(name)
        if both[0] != both[1]:
            yield f"package {name}", both[0] or "absent", both[1] or "absent"
    for key, left, right in _steady(there, here):
        if None not in (left, right) and left != right:
            yield key, left, right


def _steady(there: Surroundings, here: Surroundings) -> Iterator[tuple[str, object, object]]:
    yield "commit", there.commit, here.commit
    yield "kernel", there.kernel, here.kernel
    for name in sorted({*there.instructions} ^ {*here.instructions}):
        if there.instructions and here.instructions:
            yield f"instructions {name}", name in there.instructions, name in here.instructions
    for name in there.caches.keys() & here.caches.keys():
        yield f"cache {name}", there.caches[name], here.caches[name]
    yield "highest clock in MHz", there.begun.most_mhz, here.begun.most_mhz
    yield "clock governor", there.begun.governor, here.begun.governor
    yield "boost", there.begun.boost, here.begun.boost
