"""`specbench check-dtype`: is the precision what it should be, on both sides?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import JsonOption, PluginOption, ProfileOption, SetOption
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.config import Profile
    from specbench.records import Audit
    from specbench.registry import Registry


def check_dtype(
    profile: ProfileOption = "default",
    every: Annotated[bool, typer.Option("--all", help="All shipped profiles.")] = False,
    load: Annotated[
        bool,
        typer.Option("--load", help="Load the models and look at every tensor, logits and cache included."),
    ] = False,
    overrides: SetOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that edge and cloud have the precision that the profile demands; exit 1 when not."""
    from specbench.config import list_profiles, load_profile
    from specbench.registry import discover
    from specbench.render import console

    registry = discover(plugin or ())
    names = list(list_profiles()) if every else [profile]
    reports = []
    for name in names:
        loaded = load_profile(name, overrides or ())
        report = _report(name, loaded, registry)
        if load:
            try:
                _add_audits(report, loaded)
            except SpecbenchError as error:
                if not every:
                    raise
                report["problems"].append(error.message)
        report["ok"] = not report["problems"]
        reports.append(report)
    ok = all(report["ok"] for report in reports)
    if as_json:
        document = {"ok": ok, "profiles": [_without_records(report) for report in reports]}
        console.print_json(document)
    else:
        for report in reports:
            _print(report)
    if not ok:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))


def _report(name: str, profile: Profile, registry: Registry) -> dict:
    """What the profile declares, for every method and role."""
    from specbench.audit import declared_precision, parity_problems

    roles = {
        role: {"dtype": declared_precision(spec), "device": spec.device}
        for role, spec in (("edge", profile.edge), ("cloud", profile.cloud))
    }
    problems = parity_problems(profile)
    rows = [
        {
            "method": method.name,
            "edge": roles["edge"] if "edge" in method.roles else None,
            "cloud": roles["cloud"] if "cloud" in method.roles else None,
            "ok": not (problems and len(method.roles) == 2),
        }
        for method in registry.methods.values()
    ]
    return {"profile": name, "ok": not problems, "methods": rows, "problems": problems}


def _add_audits(report: dict, profile: Profile) -> None:
    """Load both models and add what they really are."""
    from specbench.audit import audit_problems
    from specbench.bench.preparation import configure_torch
    from specbench.factories import CloudModel, EdgeModel
    from specbench.render import console

    configure_torch(profile)
    audits: list[Audit] = []
    for factory in (
        EdgeModel(profile.edge, console.note, profile.engine),
        CloudModel(profile.cloud, console.note, profile.engine),
    ):
        audits.append(factory.audit())
    report["audits"] = audits
    if profile.precision.parity != "off":
        report["problems"] += audit_problems(audits, profile.precision.parity)


def _without_records(report: dict) -> dict:
    plain = dict(report)
    if "audits" in plain:
        plain["audits"] = [asdict(audit) for audit in plain["audits"]]
    return plain


def _print(report: dict) -> None:
    from rich.table import Table
    from rich.text import Text

    from specbench.render import console
    from specbench.render.tables import audit_table

    table = Table(title=f"profile {report['profile']}", title_justify="left", header_style="bold")
    for column in ("method", "edge", "cloud", "verdict"):
        table.add_column(column)
    for row in report["methods"]:
        cells = [
            f"{row[role]['dtype']} on {row[role]['device']}" if row[role] else "-" for role in ("edge", "cloud")
        ]
        verdict = Text("ok", style="green") if row["ok"] else Text("differs", style="red")
        table.add_row(row["method"], *cells, verdict)
    console.out.print(table)
    if "audits" in report:
        console.out.print(audit_table(report["audits"]))
    for problem in report["problems"]:
        console.out.print(Text(f"differs: {problem}", style="red"), soft_wrap=True)
