"""`specbench bundle`: stored runs and claims about them, in one file for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, option

EXAMPLES = ("specbench bundle latest --out F.zip", "specbench bundle latest --out F.zip --claims claims.yaml")


def bundle(
    runs: options.RunsArgument = None,
    *,
    out: Annotated[Path, option("--out", "File to write, a zip.", "FILE")],
    claims: Annotated[
        Path | None,
        option("--claims", "Claims to make, in YAML (default: verdict, acceptance and identity).", "FILE"),
    ] = None,
    allow_unfair: options.AllowUnfairOption = False,
    runs_dir: options.RunsDirOption = RUNS_DIR,
) -> None:
    """Write stored runs as evidence: raw rounds, environment, and claims that others can check."""
    from specbench.evidence import archive
    from specbench.evidence.bundle import CLAIMS
    from specbench.evidence.bundle import bundle as bundle_of
    from specbench.evidence.claims_file import claimed
    from specbench.render import console, evidence
    from specbench.render.report.output import demand_place
    from specbench.results.store import RunStore

    demand_place(out)
    store = RunStore(runs_dir)
    run_ids = list(dict.fromkeys(store.find(name) for name in (runs or (None,))))
    files = bundle_of(store, run_ids, claims, allow_unfair)
    archive.write(out, files)
    stated = claimed(files[CLAIMS].decode(), CLAIMS)
    console.out.print(*evidence.bundled(out, out.stat().st_size, len(run_ids), stated), sep="\n")
