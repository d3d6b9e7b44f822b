"""`specbench check-dtype`: is the precision what it should be, on both sides?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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
