"""Precision as the profile declares it; loads nothing."""

from __future__ import annotations

from specbench.config import ModelSpec, Profile


def declared_precision(spec: ModelSpec) -> str:
    """A model's declared precision, such as `float32` or `int8 weights, float32 arithmetic`."""
    return in_words(spec.dtype, getattr(spec, "quantization", None))


def in_words(dtype: str, quantization: str | None) -> str:
    """How a dtype and a quantisation are called together."""
    return f"{quantization} weights, {dtype} arithmetic" if quantization else dtype


def parity_problems(profile: Profile) -> list[str]:
    """Why the declared precisions break the profile's rule; empty when they keep it."""
    edge, cloud = profile.edge.dtype, profile.cloud.dtype
    if profile.precision.parity == "edge_cloud" and edge != cloud:
        return [
            f"edge.dtype is {edge} and cloud.dtype is {cloud}, and precision.parity: edge_cloud demands one"
        ]
    if profile.precision.parity == "edge_cloud" and profile.edge.quantization:
        return [
            f"edge.quantization is {profile.edge.quantization} and the cloud's weights are {cloud}, "
            "and precision.parity: edge_cloud demands one"
        ]
    return []
