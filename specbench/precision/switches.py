"""The arithmetic settings of this process (TF32, reduced precision, autocast): reading and setting them.

torch keeps two sets of settings for one thing, the older `allow_tf32` flags and (since 2.9) the newer
`fp32_precision`. Where they contradict each other, reading an older one raises RuntimeError; a fresh process
has cuDNN at tf32. So both are set alike, and read one by one. What this torch does not have is left out.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

from specbench.precision.findings import DIFFERS, UNDEMANDED, UNKNOWN, Finding

Switches = dict[str, str | bool | None]

# Newer settings come first: where both have changed they name the offender, and the older cannot be read.
FP32_PRECISION = tuple(
    f"torch.backends.{owner}fp32_precision"
    for owner in (
        "cuda.matmul.", "cudnn.", "cudnn.conv.", "cudnn.rnn.",
        "mkldnn.", "mkldnn.matmul.", "mkldnn.conv.", "mkldnn.rnn.", "",
    )
)  # fmt: skip
ALLOW_TF32 = tuple(f"torch.backends.{owner}.allow_tf32" for owner in ("cuda.matmul", "cudnn", "mkldnn"))
MATMUL_PRECISION = "torch.get_float32_matmul_precision()"
# Reported and kept as torch has them, for they concern float16 and bfloat16 on both sides alike.
REDUCED = (
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "torch.backends.cuda.matmul.allow_fp16_accumulation",
    "torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()",
    "torch.backends.cuda.flash_sdp_enabled()",
    "torch.backends.cuda.mem_efficient_sdp_enabled()",
    "torch.backends.cuda.math_sdp_enabled()",
    "torch.backends.cuda.cudnn_sdp_enabled()",
)
AUTOCAST = tuple(f"torch.is_autocast_enabled('{device}')" for device in ("cpu", "cuda"))
AUTOCAST_DTYPE = tuple(f"torch.get_autocast_dtype('{device}')" for device in ("cpu", "cuda"))
DEFAULT_DTYPE = "torch.get_default_dtype()"
# Read by the libraries below torch, whose own settings do not overrule them; the values that change nothing.
HARMLESS_ENVIRONMENT = {
    "NVIDIA_TF32_OVERRIDE": ("0",),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("STRICT",),
    "DNNL_DEFAULT_FPMATH_MODE": ("STRICT",),
}
ENVIRONMENT_PREFIX = "environment "
UNREADABLE = "unreadable: older and newer settings contradict each other"


def configure(allow_tf32: bool) -> None:
    """Set every float32 switch of the process: all exact (`ieee`, `highest`), or TF32 wherever there is one."""
    import torch

    torch.set_float32_matmul_precision("high" if allow_tf32 else "highest")
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    for name in FP32_PRECISION:
        owner: object = torch
        for step in name.split(".")[1:-1]:
            owner = getattr(owner, step, None)
        if hasattr(owner, "fp32_precision"):
            owner.fp32_precision = "tf32" if allow_tf32 else "ieee"


def read() -> Switches:
    """Every switch by the name that sets it, in this thread."""
    return dict(zip(_readers(), map(_shown, glance()), strict=True))


def glance() -> tuple[object, ...]:
    """Every switch as torch has it in this thread, only to be compared with another glance: far cheaper."""
    found: list[object] = []
    for reader in _readers().values():
        try:
            found.append(reader())
        except RuntimeError:
            found.append(UNREADABLE)
    return tuple(found)


def changes(before: Mapping[str, str | bool | None], after: Mapping[str, str | bool | None]) -> Iterator[str]:
    """Names of the switches that have another value now."""
    return (name for name in {**before, **after} if before.get(name) != after.get(name))


def applies(name: str, cuda: bool) -> bool:
    """Whether a switch has any effect here; those of CUDA are reported on a machine without it all the same."""
    return cuda or not any(word in name for word in ("cuda", "cudnn", "NVIDIA"))


def findings(values: Mapping[str, str | bool | None], allow_tf32: bool) -> list[Finding]:
    """The switches that are not what `precision.allow_tf32` says; an unreadable one is unknown."""
    found = []
    wanted: Switches = dict.fromkeys(FP32_PRECISION, "tf32" if allow_tf32 else "ieee")
    wanted |= dict.fromkeys(ALLOW_TF32, allow_tf32) | dict.fromkeys(AUTOCAST, False)
    wanted |= {MATMUL_PRECISION: "high" if allow_tf32 else "highest", DEFAULT_DTYPE: "float32"}
    for name, value in values.items():
        if value == UNREADABLE:
            found.append(Finding(UNKNOWN, name, f"{name} is {value}"))
        elif name in wanted and value is not None and value != wanted[name]:
            found.append(
                Finding(
                    DIFFERS, name, f"{name} is {value}, and should be {wanted[name]}",
                    settings=mending({name: value}) or UNDEMANDED,
                )
            )  # fmt: skip
        elif name.startswith(ENVIRONMENT_PREFIX):
            variable = name.removeprefix(ENVIRONMENT_PREFIX)
            if value not in (None, *HARMLESS_ENVIRONMENT[variable]) and not (allow_tf32 and "TF32" in name):
                message = f"{name} is {value}, which torch's own settings do not overrule"
                found.append(Finding(DIFFERS, name, message, unset=variable))
    return found


def mending(values: Mapping[str, str | bool | None]) -> tuple[str, ...]:
    """The setting under which all these switches would be as they are, if `precision.allow_tf32` rules them."""
    if not values.keys() <= {*FP32_PRECISION, *ALLOW_TF32, MATMUL_PRECISION}:
        return ()
    known = set(values.values()) - {UNREADABLE}
    for setting, kept in (("true", {"tf32", "high", True}), ("false", {"ieee", "highest", False})):
        if known and known <= kept:
            return (f"precision.allow_tf32={setting}",)
    return ()


@cache
def _readers() -> dict[str, Callable[[], object]]:
    """What reads each switch that this torch has, with all names looked up once and for all."""
    import torch

    readers: dict[str, Callable[[], object]] = {}
    for name in (*FP32_PRECISION, *ALLOW_TF32, MATMUL_PRECISION, *REDUCED, DEFAULT_DTYPE):
        try:
            reader = _reader(torch, name)
            reader()
        except AttributeError:  # another torch has other settings
            continue
        except RuntimeError:  # it has this one, and cannot read it now
            pass
        readers[name] = reader
    for device, enabled, dtype in zip(("cpu", "cuda"), AUTOCAST, AUTOCAST_DTYPE, strict=True):
        readers[enabled] = partial(torch.is_autocast_enabled, device)
        readers[dtype] = partial(torch.get_autocast_dtype, device)
    for name in HARMLESS_ENVIRONMENT:
        readers[ENVIRONMENT_PREFIX + name] = partial(os.environ.get, name)
    return readers


def _reader(torch: object, name: str) -> Callable[[], object]:
    owner, steps = torch, name.removesuffix("()").split(".")[1:]
    for step in steps[:-1]:
        owner = getattr(owner, step)
    if name.endswith("()"):
        return getattr(owner, steps[-1])
    # Most are properties of torch's own kind, which call a C function; it is called without them.
    declared = inspect.getattr_static(type(owner), steps[-1], None)
    return getattr(declared, "getter", None) or partial(getattr, owner, steps[-1])


def _shown(value: object) -> str | bool | None:
    return value if isinstance(value, bool) else str(value or "").removeprefix("torch.") or None
