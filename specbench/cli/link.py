"""`specbench link`: a link of real packets between two network namespaces of this machine."""

from __future__ import annotations

from typing import Annotated

from specbench.cli import options
from specbench.cli.app import App
from specbench.cli.options import examples, option

UP = "specbench link up --set link.kind=emulated --set cloud.placement=process --set link.rtt_ms=20"
app = App(
    help="Emulate a link of real packets on this machine. Needs root.",
    epilog=examples(UP),
    callback=options.show_help,
)


@app.command("up", epilog=examples(UP))
def up(profile: options.ProfileOption = "default", overrides: options.SetOption = None) -> None:
    """Create the profile's link between two network namespaces: delay, jitter, rates and loss."""
    from specbench.cloud.link import emulated
    from specbench.errors import SpecbenchError
    from specbench.profile import load_profile
    from specbench.render import console

    link = load_profile(profile, overrides or ()).link
    emulated.demand_root()
    if link.kind != "emulated":
        raise SpecbenchError(
            f"link.kind is {link.kind}, so a run would not use the emulated link",
            "add --set link.kind=emulated --set cloud.placement=process, here and to the run",
        )
    state = emulated.up(link)
    console.out.print(f"Link created with {state.how}: {emulated.EDGE} and {emulated.CLOUD}.")


@app.command("down", epilog=examples("specbench link down"))
def down() -> None:
    """Remove the link, and what a crash left of it."""
    from specbench.cloud.link import emulated
    from specbench.render import console

    console.out.print("Link removed." if emulated.down() else "No link to remove.")


@app.command("check", epilog=examples("specbench link check --seconds 5"))
def check(
    seconds: Annotated[
        float,
        option("--seconds", "Duration of the bandwidth test per direction, in seconds.", "S", min=0.5, max=60),
    ] = 3.0,
    as_json: options.JsonOption = False,
) -> None:
    """Measure the round trip of the link, and its TCP throughput in both directions."""
    from dataclasses import asdict

    from specbench.cloud.link import emulated, probe
    from specbench.errors import ExitCode, SpecbenchError
    from specbench.render import console

    state = emulated.demand()
    try:
        found = probe.measure(seconds)
    except OSError as error:
        raise SpecbenchError(
            f"no packet crosses the emulated link: {error}",
            "recreate it: specbench link down, then specbench link up",
            ExitCode.RUN,
        ) from error
    asked = state.spec
    if as_json:
        console.print_json(
            {"how": state.how, "asked": asked.model_dump(mode="json"), "measured": asdict(found)}
        )
        return
    rows = (
        ("round trip", asked.rtt_ms, found.rtt_ms, "ms"),
        ("uplink", asked.uplink_mbps, found.uplink_mbps, "Mbit/s of TCP"),
        ("downlink", asked.downlink_mbps, found.downlink_mbps, "Mbit/s of TCP"),
    )
    for name, wanted, measured, unit in rows:
        limit = "no limit" if wanted is None else f"{wanted:g}"
        console.out.print(f"{name}: {measured:.1f} {unit} (asked: {limit})", highlight=False)
