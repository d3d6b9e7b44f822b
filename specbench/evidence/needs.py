"""What a run needs and may not be here: models, a GPU, a server."""

from __future__ import annotations

from specbench.errors import ModelError, SpecbenchError
from specbench.profile import ModelSpec, Profile
from specbench.results.records import Manifest


def demand_here(manifest: Manifest, profile: Profile) -> None:
    """Refuse to run again what cannot be the same here; nothing is loaded.

    Args:
        profile: that of the new run, with its places as they are here.

    Raises:
        SpecbenchError: naming the first thing that is missing, or is another one.
    """
    _demand_server(manifest, profile)
    _demand_devices(manifest)
    for role, known in manifest.models.items():
        if role != "cloud" or not profile.cloud.is_elsewhere:
            spec = profile.cloud if role == "cloud" else profile.edge.drafts.get(role)
            if spec:
                _demand_model(role, spec, known.get("files") or {})


def _demand_server(manifest: Manifest, profile: Profile) -> None:
    placement = profile.cloud.placement
    if profile.cloud.is_elsewhere and placement == manifest.profile["cloud"].get("placement"):
        scheme = placement.partition("://")[0]
        raise SpecbenchError(
            f"run {manifest.run_id} had its cloud on another machine, and a bundle names no hosts",
            f"start the server, then name it with --set cloud.placement={scheme}://HOST:PORT",
        )


def _demand_devices(manifest: Manifest) -> None:
    wanted = [audit for audit in manifest.audits if audit.device.startswith("cuda")]
    if not wanted:
        return
    import torch

    if not torch.cuda.is_available():
        name = manifest.machine.get("cuda") or "a CUDA device"
        raise ModelError(
            f"run {manifest.run_id} had its {wanted[0].role} model on {wanted[0].device} ({name}), and there "
            "is no CUDA device here",
            "run it on a machine with such a device",
        )


def _demand_model(role: str, spec: ModelSpec, known: dict[str, str]) -> None:
    from specbench.models import files

    try:
        found = files.fingerprint(files.locate(spec, weights=True))
    except SpecbenchError as error:
        raise ModelError(
            f"the {role} model of the bundle is not here: {error.message}",
            f"put it there, or name its place with --set, such as {role}.model=PATH",
        ) from error
    for name in sorted({*known, *found}):
        if known.get(name) != found.get(name):
            hashes = [(files_.get(name) or "absent")[:12] for files_ in (known, found)]
            raise ModelError(
                f"the {role} model {spec.model} is not that of the bundle: the SHA-256 of {name} was "
                f"{hashes[0]}, and is {hashes[1]}",
                f"name another place with --set, such as {role}.model=PATH",
            )
