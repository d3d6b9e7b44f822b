"""What `check-dtype` finds: profiles as they are declared and as they load, and runs as they are stored."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from specbench import precision
from specbench.api import EdgeModel, Method, Options
from specbench.benchmark.preparation import configure_torch
from specbench.cloud import ModelFactory, cloud_of
from specbench.errors import SpecbenchError
from specbench.precision import Finding
from specbench.profile import ModelSpec, Profile, list_profiles, load_profile
from specbench.profile.loading import with_changes
from specbench.registry import discover
from specbench.results.records import Manifest

logger = logging.getLogger(__name__)


def profile_reports(
    profile: str | None, every: bool, load: bool, overrides: Sequence[str], plugins: Sequence[Path]
) -> list[dict]:
    """A report of one profile or of all shipped ones, with the methods there are.

    Args:
        profile: its name or file; where it is absent, all of them, or with `load` the default one.
        every: all shipped profiles; a model that cannot be loaded is unknown then, and no error.
        load: load both models and look at their tensors.

    Raises:
        SpecbenchError: a profile or plugin is not valid, or a model cannot be loaded.
    """
    registry = discover(plugins)
    one = profile or ("default" if load else None)
    reports = []
    for name in list_profiles() if every or one is None else [one]:
        command = ["check-dtype", "--profile", name, *(["--load"] if load else [])]
        command += [word for override in overrides for word in ("--set", override)]
        command += [word for path in plugins for word in ("--plugin", str(path))]
        loaded = load_profile(name, overrides)
        registry.demand_settings(loaded)
        reports.append(_profile_report(name, loaded, registry.methods.values(), command, load, every))
    return reports


def _profile_report(
    name: str,
    profile: Profile,
    methods: Iterable[Method],
    command: Sequence[str],
    load: bool,
    keep_going: bool,
) -> dict:
    """What a profile declares for every method and role, judged; and what is there, where it is loaded.

    Args:
        command: the words that asked; the command that fixes a finding is made of them.
    """
    report, found = _declared(name, profile, methods)
    if load:
        found += _look(report, profile, keep_going)
    return _judged(report, found, command, profile.precision.parity)


def run_reports(manifests: Sequence[Manifest]) -> list[dict]:
    """One report a stored run, and one for each that is held against the first."""
    reports = []
    for manifest in manifests:
        declared = manifest.profile.get("precision", {})
        parity = declared.get("parity", "edge_cloud")
        report = {
            "run": manifest.run_id,
            "audits": list(manifest.audits),
            "audits_at_end": list(manifest.audits_at_end),
            "switches": manifest.switches,
            "switch_changes": [asdict(change) for change in manifest.switch_changes],
            "notes": precision.remarks(manifest.audits, parity, declared.get("allow_tf32", False)),
        }
        reports.append(
            _judged(report, precision.run_findings(manifest), _command(manifest), parity, manifest.methods)
        )
    for other in manifests[1:]:
        report = {"between": [manifests[0].run_id, other.run_id], "notes": []}
        found = precision.between_findings(manifests[0], other)
        reports.append(_judged(report, found, _command(other), "edge_cloud", other.methods))
    return reports


def _declared(name: str, profile: Profile, methods: Iterable[Method]) -> tuple[dict, list[Finding]]:
    """What the profile declares for every method and role, and what the methods' options change."""
    roles = {
        role: {
            "dtype": precision.declared_precision(spec),
            "device": _place(spec),
            "ranks": getattr(spec, "ranks", 1),
        }
        for role, spec in (("edge", profile.edge), ("cloud", profile.cloud))
    }
    pair, unseen = precision.parity_findings(profile), precision.unseen_findings(profile)
    found, rows = [*pair, *unseen], []
    for method in methods:
        changes: dict[str, str] = {}
        try:
            changes = dict(method.precision_changes(Options.of(profile)))
            own = precision.method_findings(profile, method.name, changes, method.roles)
        except Exception as error:  # a stranger's plugin must not hide what the others say
            message = f"{method.name} cannot say what its options change: {type(error).__name__}: {error}"
            own = [precision.Finding(precision.UNKNOWN, method.name, message)]
        both = pair if len(method.roles) == 2 else ()
        verdict = precision.verdict([*own, *both, *(unseen if "cloud" in method.roles else ())])
        rows.append(
            {
                "method": method.name,
                "edge": roles["edge"] if "edge" in method.roles else None,
                "cloud": roles["cloud"] if "cloud" in method.roles else None,
                "changes": changes,
                "verdict": verdict,
                "ok": verdict == precision.OK,
            }
        )
        found += own
    return {"profile": name, "methods": rows, "notes": precision.declared_remarks(profile)}, found


def _place(spec: ModelSpec) -> str:
    """Where the weights are to lie."""
    device_map = getattr(spec, "device_map", None)
    return f"device map {device_map}" if device_map else spec.device


def _look(report: dict, profile: Profile, keep_going: bool) -> list[Finding]:
    """Load both models and add what they and the arithmetic really are."""
    moments = {"found": precision.switches.read()}
    configure_torch(profile)
    moments["start"] = precision.switches.read()
    audits, found = [], []
    if profile.engine.kind == "auto":  # of tensors both engines say the same, and to compile takes minutes
        profile = with_changes(profile, settings={"engine.kind": "eager"})
    edge = EdgeModel(profile.edge, profile.engine)
    cloud = cloud_of(profile)
    with closing(cloud):
        helpers = [edge.helper(name) for name in profile.edge.helpers or ()]
        for factory in (edge, *helpers, cloud):
            try:
                audits.append(factory.audit())
            except SpecbenchError as error:
                unknown = _unknown(factory, error, keep_going)
                if unknown is None:
                    raise
                found.append(unknown)
    moments["end"] = precision.switches.read()
    parity = profile.precision.parity
    found += precision.audit_findings(audits, parity) + precision.finite_findings(audits, parity)
    found += precision.switches.findings(moments["start"], profile.precision.allow_tf32)
    said = precision.remarks(audits, parity, profile.precision.allow_tf32)
    report |= {"audits": audits, "switches": moments, "notes": said}
    return found


def _unknown(factory: ModelFactory, error: SpecbenchError, keep_going: bool) -> Finding | None:
    """The finding on a model whose precision cannot be known; `None` when its absence is the user's error."""
    from specbench.models import storage

    try:
        pickled = storage.pickled(factory.folder)
    except SpecbenchError:  # it cannot even be found
        pickled = []
    if pickled and "pickled" in error.message:
        return precision.Finding(
            precision.UNKNOWN,
            f"{factory.role}: {pickled[0]}",
            f"{factory.role}: the dtype of {pickled[0]} is unknown; {error.message}",
            command=storage.conversion(factory.folder),
        )
    return (
        precision.Finding(precision.UNKNOWN, factory.role, f"{factory.role}: {error.message}")
        if keep_going
        else None
    )


def _judged(
    report: dict, found: Sequence[Finding], command: Sequence[str], parity: str, methods: Sequence[str] = ()
) -> dict:
    """The report with its verdict, its findings, and the command that mends each.

    Where nothing is demanded nothing fails, and nothing is called ok either.
    """
    verdict = precision.verdict(found)
    if parity == "off" and verdict == precision.OK:
        verdict = precision.UNKNOWN
    findings = [
        {
            "verdict": finding.verdict,
            "subject": finding.subject,
            "message": finding.message,
            "mend": finding.mend(command, [name for name in methods if name != finding.method]),
        }
        for finding in found
    ]
    problems = [finding.message for finding in found if finding.verdict == precision.DIFFERS]
    ok = verdict == precision.OK or parity == "off"
    return report | {"ok": ok, "verdict": verdict, "findings": findings, "problems": problems}


def _command(manifest: Manifest) -> list[str]:
    """The words that started a run; a run that was resumed starts anew."""
    words = list(manifest.command)
    if "--resume" in words:
        at = words.index("--resume")
        del words[at : at + 2]
    return words or ["run", *manifest.methods, "--profile", manifest.profile_name]
