"""`specbench trace`: one run of the target and one pass of the draft, for every schedule there is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

from specbench.cli import options
from specbench.cli.options import option

EXAMPLES = ("specbench trace --out trace.json --set workload.limit=12",)


def trace(
    out: Annotated[Path, option("--out", "File to write the trace to, as JSON.", "FILE")],
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Record where the draft model agrees with the target along the target's own texts."""
    from specbench.profile import load_profile
    from specbench.registry import discover
    from specbench.render.report.output import demand_place

    demand_place(out)
    loaded = load_profile(profile, overrides or ())
    registry = discover(())
    registry.demand_settings(loaded)
    method = registry.get("speculative")

    from specbench.benchmark.media_demands import demand_texts
    from specbench.benchmark.preparation import prepare
    from specbench.forecast.acceptance_trace import demand_traceable, write_trace
    from specbench.forecast.trace_making import make_trace
    from specbench.profile import LinkSpec
    from specbench.render import console

    demand_traceable(loaded)
    # What the target says takes no link, and a modelled one would only be waited for.
    prepared = prepare(loaded.model_copy(update={"link": LinkSpec()}), [method])
    demand_texts(prepared.prompts, "specbench trace")
    with closing(prepared.cloud):
        made = make_trace(prepared, method)
    write_trace(out, made)
    tokens = sum(len(text.tokens) - 1 for text in made.texts)
    agreed = sum(text.agrees[1:].count("1") for text in made.texts)
    summary = {
        "trace": str(out),
        "exact": made.exact,
        "verification": made.verification,
        "texts": len(made.texts),
        "tokens": tokens + len(made.texts),
        "agreement": agreed / tokens if tokens else None,
    }
    if as_json:
        console.print_json(summary)
        return
    share = f"the draft agrees on {agreed / tokens:.1%} of them" if tokens else "too short to draft anything"
    kind = "exact" if made.exact else f"approximate, because the rule {made.verification} changes the text"
    console.out.print(f"{out}: {summary['texts']} texts, {summary['tokens']} tokens; {share} ({kind})")
