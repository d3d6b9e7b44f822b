"""What a profile may say of a cloud that a vLLM server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specbench.config.models import CloudSpec
    from specbench.config.profile import Profile


def demand_address(cloud: CloudSpec) -> None:
    """Refuse a backend without its kind of address, and settings that are the server's own.

    Raises:
        ValueError: naming the setting.
    """
    is_http = cloud.placement.startswith("http")
    if (cloud.backend == "vllm") != is_http:
        wanted = "is for backend: vllm" if is_http else "is not where a vLLM server listens: http://host:port"
        raise ValueError(f"backend is {cloud.backend}, and placement {cloud.placement} {wanted}")
    if cloud.backend != "vllm":
        return
    for key in ("layers", "threads", "device_map", "parallel"):
        if getattr(cloud, key) is not None:
            raise ValueError(f"{key} is the vLLM server's own to set; drop it")
    if cloud.batch.sessions > 1:
        raise ValueError("batch is for 'specbench serve'; a vLLM server batches by itself")
    if cloud.on_cloud_loss != "fail":
        raise ValueError(f"on_cloud_loss: {cloud.on_cloud_loss} is for a cloud of 'specbench serve'")


def demand_greedy(profile: Profile) -> None:
    """Refuse what a vLLM server cannot verify, which compares top-1 ids and no more, and a link that is set.

    Raises:
        ValueError: naming the setting.
    """
    if profile.cloud.backend != "vllm":
        return
    decoding, speculative = profile.decoding, profile.speculative
    found = {
        "decoding.temperature": (decoding.temperature, 0.0),
        "decoding.repetition_penalty": (decoding.repetition_penalty, 1.0),
        "speculative.verification": (speculative.verification, "greedy"),
        "speculative.gate": (speculative.gate and speculative.gate.measure, None),
    }
    for key, (value, only) in found.items():
        if value != only:
            wanted = "null" if only is None else only
            raise ValueError(f"cloud.backend: vllm is greedy alone; {key} is {value}, and must be {wanted}")
    if profile.link.is_set or profile.link.kind == "emulated":
        raise ValueError("cloud.backend: vllm has a real link, which is measured; drop what is set of link")
