"""`specbench check-dtype`: is the precision what it should be, on both sides?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    JsonOption,
    PluginOption,
    RunsDirOption,
    SetOption,
    demand_alone,
)
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.audit import Finding
    from specbench.config import ModelSpec, Profile
    from specbench.factories import CloudModel, EdgeModel
    from specbench.records import Manifest
    from specbench.registry import Registry


def check_dtype(
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="A profile's name, or a YAML file; all shipped ones if none."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All shipped profiles; what --load cannot load is unknown.")
    ] = False,
    load: Annotated[
        bool,
        typer.Option("--load", help="Load the models (of 'default' if none is named); look at every tensor."),
    ] = False,
    runs: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="ID", help="A stored run instead; repeatable, then they are compared."),
    ] = None,
    overrides: SetOption = None,
    plugin: PluginOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Check that edge and cloud have the precision that the profile demands; exit 1 when not."""
    if runs and (profile or every or load or overrides or plugin):
        raise SpecbenchError(
            "--run asks about stored runs, whose profile, methods and precision are fixed",
            "leave out --profile, --all, --load, --set and --plugin",
        )
    demand_alone("--all" if every else "", {"--profile": profile})
    if runs:
        reports, kind = _run_reports(runs, runs_dir), "runs"
    else:
        reports, kind = _profile_reports(profile, every, load, overrides or (), plugin or ()), "profiles"
    ok = all(report["ok"] for report in reports)
    if as_json:
        _print_json(reports, kind, ok)
    else:
        for report in reports:
            _print(report)
    if not ok:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))


def _profile_reports(
    profile: str | None, every: bool, load: bool, overrides: Sequence[str], plugins: Sequence[Path]
) -> list[dict]:
    """One report a profile: what is declared, and with `load` what is there."""
    from specbench.config import list_profiles, load_profile
    from specbench.registry import discover

    registry = discover(plugins)
    one = profile or ("default" if load else None)
    names = list(list_profiles()) if every or one is None else [one]
    reports = []
    for name in names:
        loaded = load_profile(name, overrides)
        report, found = _declared(name, loaded, registry)
        if load:
            found += _look(report, loaded, keep_going=every)
        command = ["check-dtype", "--profile", name, *(["--load"] if load else [])]
        command += [word for override in overrides for word in ("--set", override)]
        command += [word for path in plugins for word in ("--plugin", str(path))]
        reports.append(_judged(report, found, command, loaded.precision.parity))
    return reports


def _declared(name: str, profile: Profile, registry: Registry) -> tuple[dict, list[Finding]]:
    """What the profile declares for every method and role, and what the methods' options change."""
    from specbench import audit
    from specbench.api import Options

    roles = {
        role: {
            "dtype": audit.declared_precision(spec),
            "device": _place(spec),
            "ranks": getattr(spec, "ranks", 1),
        }
        for role, spec in (("edge", profile.edge), ("cloud", profile.cloud))
    }
    pair, unseen = audit.parity_findings(profile), audit.unseen_findings(profile)
    found, rows = [*pair, *unseen], []
    for method in registry.methods.values():
        changes: dict[str, str] = {}
        try:
            changes = dict(method.precision_changes(Options.of(profile)))
            own = audit.method_findings(profile, method.name, changes, method.roles)
        except Exception as error:  # a stranger's plugin must not hide what the others say
            message = f"{method.name} cannot say what its options change: {type(error).__name__}: {error}"
            own = [audit.Finding(audit.UNKNOWN, method.name, message)]
        both = pair if len(method.roles) == 2 else ()
        verdict = audit.verdict([*own, *both, *(unseen if "cloud" in method.roles else ())])
        rows.append(
            {
                "method": method.name,
                "edge": roles["edge"] if "edge" in method.roles else None,
                "cloud": roles["cloud"] if "cloud" in method.roles else None,
                "changes": changes,
                "verdict": verdict,
                "ok": verdict == audit.OK,
            }
        )
        found += own
    return {"profile": name, "methods": rows, "notes": audit.declared_remarks(profile)}, found


def _place(spec: ModelSpec) -> str:
    """Where the weights are to lie."""
    device_map = getattr(spec, "device_map", None)
    return f"device map {device_map}" if device_map else spec.device


def _look(report: dict, profile: Profile, keep_going: bool) -> list[Finding]:
    """Load both models and add what they and the arithmetic really are."""
    from specbench import audit
    from specbench.bench.preparation import configure_torch
    from specbench.factories import EdgeModel, cloud_of
    from specbench.render import console

    moments = {"found": audit.switches.read()}
    configure_torch(profile)
    moments["start"] = audit.switches.read()
    audits, found = [], []
    edge = EdgeModel(profile.edge, console.note, profile.engine)
    cloud = cloud_of(profile, console.note)
    with closing(cloud):
        for factory in (edge, cloud):
            try:
                audits.append(factory.audit())
            except SpecbenchError as error:
                unknown = _unknown(factory, error, keep_going)
                if unknown is None:
                    raise
                found.append(unknown)
    moments["end"] = audit.switches.read()
    found += audit.audit_findings(audits, profile.precision.parity)
    found += audit.switches.findings(moments["start"], profile.precision.allow_tf32)
    precision = profile.precision
    said = audit.remarks(audits, precision.parity, precision.allow_tf32)
    report |= {"audits": audits, "switches": moments, "notes": said}
    return found


def _unknown(factory: EdgeModel | CloudModel, error: SpecbenchError, keep_going: bool) -> Finding | None:
    """The finding on a model whose precision cannot be known; `None` when its absence is the user's error."""
    from specbench import audit
    from specbench.models import storage

    try:
        pickled = storage.pickled(factory.folder)
    except SpecbenchError:  # it cannot even be found
        pickled = []
    if pickled and "pickled" in error.message:
        return audit.Finding(
            audit.UNKNOWN,
            f"{factory.role}: {pickled[0]}",
            f"{factory.role}: the dtype of {pickled[0]} is unknown; {error.message}",
            command=storage.conversion(factory.folder),
        )
    return (
        audit.Finding(audit.UNKNOWN, factory.role, f"{factory.role}: {error.message}") if keep_going else None
    )


def _run_reports(names: Sequence[str], runs_dir: Path) -> list[dict]:
    """One report a stored run, and one for each that is held against the first."""
    from specbench import audit
    from specbench.bench.store import RunStore

    store = RunStore(runs_dir)
    manifests = [store.read(store.find(name)).manifest for name in dict.fromkeys(names)]
    reports = []
    for manifest in manifests:
        precision = manifest.profile.get("precision", {})
        parity = precision.get("parity", "edge_cloud")
        report = {
            "run": manifest.run_id,
            "audits": list(manifest.audits),
            "audits_at_end": list(manifest.audits_at_end),
            "switches": manifest.switches,
            "switch_changes": [asdict(change) for change in manifest.switch_changes],
            "notes": audit.remarks(manifest.audits, parity, precision.get("allow_tf32", False)),
        }
        reports.append(
            _judged(report, audit.run_findings(manifest), _command(manifest), parity, manifest.methods)
        )
    for other in manifests[1:]:
        report = {"between": [manifests[0].run_id, other.run_id], "notes": []}
        found = audit.between_findings(manifests[0], other)
        reports.append(_judged(report, found, _command(other), "edge_cloud", other.methods))
    return reports


def _judged(
    report: dict, found: Sequence[Finding], command: Sequence[str], parity: str, methods: Sequence[str] = ()
) -> dict:
    """The report with its verdict, its findings, and the command that mends each.

    Where nothing is demanded nothing fails, and nothing is called ok either.
    """
    from specbench import audit

    verdict = audit.verdict(found)
    if parity == "off" and verdict == audit.OK:
        verdict = audit.UNKNOWN
    findings = [
        {
            "verdict": finding.verdict,
            "subject": finding.subject,
            "message": finding.message,
            "mend": finding.mend(command, [name for name in methods if name != finding.method]),
        }
        for finding in found
    ]
    problems = [finding.message for finding in found if finding.verdict == audit.DIFFERS]
    ok = verdict == audit.OK or parity == "off"
    return report | {"ok": ok, "verdict": verdict, "findings": findings, "problems": problems}


def _command(manifest: Manifest) -> list[str]:
    """The words that started a run; a run that was resumed starts anew."""
    words = list(manifest.command)
    if "--resume" in words:
        at = words.index("--resume")
        del words[at : at + 2]
    return words or ["run", *manifest.methods, "--profile", manifest.profile_name]


def _print_json(reports: Sequence[dict], kind: str, ok: bool) -> None:
    from specbench.audit import DIFFERS, OK, UNKNOWN
    from specbench.render import console

    verdicts = {report["verdict"] for report in reports}
    document: dict = {"ok": ok, "verdict": next((v for v in (DIFFERS, UNKNOWN) if v in verdicts), OK)}
    plain = [
        {
            key: [asdict(a) for a in value] if key.startswith("audits") else value
            for key, value in report.items()
        }
        for report in reports
    ]
    document[kind] = [report for report in plain if "between" not in report]
    if kind == "runs":
        document["between"] = [report for report in plain if "between" in report]
    console.print_json(document)


def _print(report: dict) -> None:
    from specbench.render import console, precision

    if "methods" in report:
        console.out.print(precision.methods_table(report))
    else:
        console.out.print(f"run {report['run']}" if "run" in report else " and ".join(report["between"]))
    if report.get("audits"):
        console.out.print(precision.audit_table(report["audits"]))
    if report.get("switches"):
        console.out.print(precision.switches_table(report["switches"], _cuda_here(report)))
    for line in precision.verdict_lines(report):
        console.out.print(line, soft_wrap=True)


def _cuda_here(report: dict) -> bool | None:
    """Whether this machine has a CUDA device, where the report is about this machine."""
    if "run" in report:
        return None
    import torch

    return torch.cuda.is_available()
