"""`specbench link`: a link of real packets between two network namespaces of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from specbench.cli.options import JsonOption, ProfileOption, SetOption, show_help

app = typer.Typer(
    help="An emulated link: set up, measured, taken away. Root only.",
    callback=show_help,
    invoke_without_command=True,
)


@app.command("up")
def up(profile: ProfileOption = "default", overrides: SetOption = None) -> None:
    """Join two network namespaces by the profile's link: delay, jitter, rates and loss."""
    from specbench.cloud.link import emulated
    from specbench.errors import SpecbenchError
    from specbench.profile import load_profile
    from specbench.render import console

    link = load_profile(profile, overrides or ()).link
    emulated.demand_root()
    if link.kind != "emulated":
        raise SpecbenchError(
            f"the profile's link.kind is {link.kind}, and a run with it would not use an emulated link",
            "add --set link.kind=emulated --set cloud.placement=process, here and to the run",
        )
    state = emulated.up(link)
    console.out.print(f"up, by {state.how}: {emulated.EDGE} and {emulated.CLOUD}")


@app.command("down")
def down() -> None:
    """Take the link away, and what a crash left of it."""
    from specbench.cloud.link import emulated
    from specbench.render import console

    console.out.print("down" if emulated.down() else "there was none")


@app.command("check")
def check(
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="How long each direction is filled.")] = 3.0,
    as_json: JsonOption = False,
) -> None:
    """Measure the round trip and what TCP carries each way."""
    from dataclasses import asdict

    from specbench.cloud.link import emulated, probe
    from specbench.errors import ExitCode, SpecbenchError
    from specbench.render import console

    state = emulated.demand()
    try:
        found = probe.measure(seconds)
    except OSError as error:
        raise SpecbenchError(
            f"nothing crosses the emulated link: {error}", "specbench link down, then up again", ExitCode.RUN
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
