"""The precision audit on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specbench.precision import DIFFERS, OK, UNKNOWN, switches
from specbench.render.fitting import Fitted, folding
from specbench.results.records import Audit, TensorGroup

STYLES = {"ok": "green", "differs": "red", "unknown": "yellow"}


def matrix(reports: Sequence[Mapping]) -> Group:
    """All profiles and methods at a glance: what each profile declares, and the verdict on each method."""
    declared, marks = [], []
    for number, report in enumerate(reports, 1):
        roles = [_any_role(report["methods"], role) for role in ("edge", "cloud")]
        verdict = Text(report["verdict"], style=STYLES[report["verdict"]])
        dtypes = [role["dtype"] if role else "-" for role in roles]
        declared.append((str(number), report["profile"], *dtypes, verdict))
    for rows in zip(*(report["methods"] for report in reports), strict=True):
        verdicts = [Text(row["verdict"], style=STYLES[row["verdict"]]) for row in rows]
        marks.append((rows[0]["method"], *verdicts))
    numbers = [str(number) for number in range(1, len(reports) + 1)]
    return Group(
        Fitted(("", "profile"), ("edge", "cloud", "verdict"), declared, words=3),
        Fitted(("method / profile",), numbers, marks, words=len(numbers)),
    )


def matrix_parts(reports: Sequence[Mapping]) -> Iterator[RenderableType]:
    """The matrix, and below it what is wrong with each profile."""
    yield matrix(reports)
    for report in reports:
        for line in finding_lines(report):
            yield Text(f"{report['profile']}: ").append_text(line)
    yield Text("declared only; add --load to check the tensors of the models")


def report_parts(report: Mapping) -> Iterator[RenderableType]:
    """All that is known of one profile, of one run, or of a run beside the first."""
    if "methods" in report:
        yield methods_table(report)
    else:
        yield Text(f"run {report['run']}" if "run" in report else " and ".join(report["between"]))
    if report.get("audits"):
        yield audit_table(report["audits"])
    if report.get("switches"):
        yield switches_table(report["switches"], None if "run" in report else _cuda_here())
    yield from verdict_lines(report)


def document(reports: Sequence[Mapping], ok: bool) -> dict:
    """The JSON of all reports, which are of profiles or of runs."""
    verdicts = {report["verdict"] for report in reports}
    plain = [
        {
            key: [asdict(audit) for audit in value] if key.startswith("audits") else value
            for key, value in report.items()
        }
        for report in reports
    ]
    single = [report for report in plain if "between" not in report]
    found = {"ok": ok, "verdict": next((word for word in (DIFFERS, UNKNOWN) if word in verdicts), OK)}
    if "profile" in single[0]:
        return {**found, "profiles": single}
    return {**found, "runs": single, "between": [report for report in plain if "between" in report]}


def _cuda_here() -> bool:
    import torch

    return torch.cuda.is_available()


def _any_role(methods: Sequence[Mapping], role: str) -> Mapping | None:
    return next((row[role] for row in methods if row[role]), None)


def methods_table(report: Mapping) -> Table:
    """What every method and role declares, and the verdict on it."""
    table = folding("method", "edge", "cloud", "verdict", title=f"profile {report['profile']}")
    for row in report["methods"]:
        cells = [_declared(row[role]) for role in ("edge", "cloud")]
        changes = ", ".join(f"{role} becomes {dtype}" for role, dtype in row["changes"].items())
        verdict = Text(row["verdict"] + (f": {changes}" if changes else ""), style=STYLES[row["verdict"]])
        table.add_row(row["method"], *cells, verdict)
    return table


def _declared(role: Mapping | None) -> str:
    if role is None:
        return "-"
    ranks = f", {role['ranks']} ranks" if role.get("ranks", 1) > 1 else ""
    return f"{role['dtype']} on {role['device']}{ranks}"


def audit_table(audits: Sequence[Audit]) -> Table:
    """What every tensor of the loaded models really is; one column a role."""
    table = folding("", *audit_columns(audits), title="as loaded")
    for name, cells in audit_rows(audits).items():
        table.add_row(name, *(Text(cell) for cell in cells))
    return table


def audit_columns(audits: Sequence[Audit]) -> list[str]:
    """What each audit is of: role and model. A cloud elsewhere may run the draft too, behind the target."""
    roles = [audit.role for audit in audits]
    there = [role == "edge" and "cloud" in roles[:index] for index, role in enumerate(roles)]
    return [
        f"{'draft in the cloud' if is_there else audit.role}: {audit.model}"
        for audit, is_there in zip(audits, there, strict=True)
    ]


def audit_rows(audits: Sequence[Audit]) -> dict[str, list[str]]:
    """What every tensor of the loaded models really is: by property, a cell for each role."""
    rows = {
        "device": [_device(audit) for audit in audits],
        "declared": [audit.declared for audit in audits],
        "tokens": [str(audit.vocabulary_size) for audit in audits],
    }
    for name, shown in SEEN.items():
        # A model whose tensors nobody could look at has unknown ones, not none.
        rows[name] = [shown(audit) if audit.parameters else "unknown" for audit in audits]
    return rows


def _device(audit: Audit) -> str:
    return audit.device if audit.ranks == 1 else f"{audit.device}, {audit.ranks} ranks"


def switches_table(moments: Mapping[str, Mapping[str, str | bool | None]], cuda: bool | None) -> Table:
    """The switches of the arithmetic, one column a moment.

    Args:
        cuda: whether there is a CUDA device; `None` when the values are another machine's.
    """
    table = folding("switch", *moments, title="arithmetic")
    for name in dict.fromkeys(name for values in moments.values() for name in values):
        cells = [str(values.get(name, "-")) for values in moments.values()]
        idle = cuda is not None and not switches.applies(name, cuda)
        shown = name.removeprefix("torch.") + (" (no CUDA here)" if idle else "")
        changed = len(set(cells)) > 1
        table.add_row(
            Text(shown, style="dim" if idle else ""), *(Text(c, style="bold" if changed else "") for c in cells)
        )
    return table


def verdict_lines(report: Mapping) -> list[Text]:
    """The findings of a report with their fixes, its notes, and its verdict."""
    lines = finding_lines(report)
    lines += [Text(f"note: {note}", style="yellow") for note in report["notes"]]
    lines.append(Text(f"verdict: {report['verdict']}", style=STYLES[report["verdict"]]))
    return lines


def finding_lines(report: Mapping) -> list[Text]:
    """What is wrong, each with the command that fixes it."""
    lines = []
    for finding in report["findings"]:
        lines.append(Text(f"{finding['verdict']}: {finding['message']}", style=STYLES[finding["verdict"]]))
        lines.append(Text(f"  fix: {finding['mend']}", style="cyan"))
    return lines


def _groups(groups: Sequence[TensorGroup]) -> str:
    return (
        "\n".join(f"{group.dtype} x{group.tensors} ({group.bytes / 1e6:.1f} MB)" for group in groups) or "none"
    )


SEEN: dict[str, Callable[[Audit], str]] = {
    "parameters": lambda audit: _groups(audit.parameters),
    "buffers": lambda audit: _groups(audit.buffers),
    "logits": lambda audit: audit.logits,
    "cache": lambda audit: _groups(audit.cache),
    "attention": lambda audit: audit.attention or "unknown",
    "stored on disk": lambda audit: "\n".join(audit.stored),
    "quantisation": lambda audit: audit.quantization or "none",
    "computed": lambda audit: "\n".join(audit.computed) or "by torch",
    "adapters": lambda audit: "\n".join(audit.adapters) or "none",
    "tied": lambda audit: "\n".join(audit.tied) or "none",
    "offloaded": lambda audit: _groups(audit.offloaded),
}
