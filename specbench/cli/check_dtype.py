"""`specbench check-dtype`: is the precision what it should be, on both sides?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from specbench.cli.options import (
    A_RUN,
    RUNS_DIR,
    JsonOption,
    PluginOption,
    RunsDirOption,
    SetOption,
    demand_alone,
)
from specbench.errors import ExitCode, SpecbenchError

EXAMPLES = ("specbench check-dtype", "specbench check-dtype --profile default --load")


def check_dtype(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="NAME|FILE",
            help="Name of a profile, or path of a YAML file (default: all shipped; with --load, default).",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Check all shipped profiles. With --load, missing models are unknown."),
    ] = False,
    load: Annotated[
        bool, typer.Option("--load", help="Load both models and check every tensor, not the declaration alone.")
    ] = False,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help=f"Check a stored run instead: {A_RUN}. Repeatable; further runs are compared with the first.",
        ),
    ] = None,
    overrides: SetOption = None,
    plugin: PluginOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Check that edge and cloud have the precision that the profile demands. Exits with 1 if not."""
    if runs and (profile or every or load or overrides or plugin):
        raise SpecbenchError(
            "--run checks stored runs, whose profile, methods and precision are fixed",
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
    elif kind == "profiles" and not load and not profile:
        _print_matrix(reports)
    else:
        for report in reports:
            _print(report)
    if not ok:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))


def _profile_reports(
    profile: str | None, every: bool, load: bool, overrides: Sequence[str], plugins: Sequence[Path]
) -> list[dict]:
    from specbench.benchmark.dtype_checks import profile_report
    from specbench.profile import list_profiles, load_profile
    from specbench.registry import discover

    registry = discover(plugins)
    one = profile or ("default" if load else None)
    reports = []
    for name in list_profiles() if every or one is None else [one]:
        command = ["check-dtype", "--profile", name, *(["--load"] if load else [])]
        command += [word for override in overrides for word in ("--set", override)]
        command += [word for path in plugins for word in ("--plugin", str(path))]
        loaded = load_profile(name, overrides)
        registry.demand_settings(loaded)
        reports.append(profile_report(name, loaded, registry.methods.values(), command, load, every))
    return reports


def _run_reports(names: Sequence[str], runs_dir: Path) -> list[dict]:
    from specbench.benchmark.dtype_checks import run_reports
    from specbench.results.store import RunStore

    store = RunStore(runs_dir)
    return run_reports([store.read(store.find(name)).manifest for name in dict.fromkeys(names)])


def _print_json(reports: Sequence[dict], kind: str, ok: bool) -> None:
    from specbench.precision import DIFFERS, OK, UNKNOWN
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


def _print_matrix(reports: Sequence[dict]) -> None:
    from specbench.render import console, precision

    console.out.print(precision.matrix(reports))
    for report in reports:
        for line in precision.finding_lines(report):
            console.out.print(f"{report['profile']}: ", line, sep="", soft_wrap=True)
    console.out.print("declared only; add --load to check the tensors of the models", soft_wrap=True)


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
