"""Which models a profile runs, where, and how they are held."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from specbench.profile.part import MemorySize, Name, Part

Dtype = Literal["float32", "float16", "bfloat16", "float64"]
Quantization = Literal["int8", "int4"]
Device = Annotated[str, StringConstraints(pattern=r"^(cpu|auto|cuda(:\d+)?)$")]
Placement = Annotated[
    str, StringConstraints(pattern=r"^(in_process|process|(ws|http)s?://(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5})$")
]


class ModelSpec(Part):
    """Which model a role runs and how it is held.

    `model` is `embedded:NAME`, a local folder in Hugging Face format, or a hub id. `layers` keeps only
    the first N transformer layers.
    """

    model: Name
    layers: Annotated[int, Field(ge=1)] | None = None
    revision: Name | None = None
    trust_remote_code: bool = False
    dtype: Dtype = "float32"
    device: Device = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None


HELPERS = "edge.helpers."
"""What the role of a further draft model begins with: its place in the profile."""


class EdgeSpec(ModelSpec):
    """The draft model, on the edge device.

    `vocab_map` is the path of the file that says which of the target's tokens a draft with a vocabulary of its
    own can say, or its name alone in the model's folder; such a draft uses the target's tokenizer.
    `quantization` holds the matrices in eight bits (a scale per row) or four (a scale and an offset per 32
    weights) and computes in float32, on the CPU. `cpus` are the processors, by number, and `memory_limit` the
    memory that the edge's process may use.

    `helpers` are further draft models by name, for methods that name one. They run in the edge's process.
    """

    device: Device = "cpu"
    vocab_map: Name | None = None
    quantization: Quantization | None = None
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    memory_limit: MemorySize | None = None
    helpers: dict[Name, EdgeSpec] | None = None

    @property
    def drafts(self) -> dict[str, EdgeSpec]:
        """All draft models by role: `edge`, and its helpers."""
        return {"edge": self} | {HELPERS + name: spec for name, spec in (self.helpers or {}).items()}

    @model_validator(mode="after")
    def _helpers_share_the_process(self) -> EdgeSpec:
        for name, helper in (self.helpers or {}).items():
            if not name.isidentifier():
                raise ValueError(f"helpers: '{name}' is no name; use letters, digits and underscores")
            for key in ("threads", "cpus", "memory_limit", "helpers"):
                if getattr(helper, key) is not None:
                    raise ValueError(f"helpers.{name}.{key} has no effect: helpers share what edge.{key} says")
        return self

    @model_validator(mode="after")
    def _quantised_weights_meet_float32_numbers(self) -> EdgeSpec:
        if self.quantization and (self.dtype != "float32" or self.device != "cpu"):
            raise ValueError(
                f"quantization: {self.quantization} computes in float32 on the CPU; "
                f"dtype is {self.dtype} and device is {self.device}"
            )
        return self


class Parallel(Part):
    """How a target is split: `tensor` is the number of ranks, processes with a share of every weight."""

    tensor: Annotated[int, Field(ge=1, le=1024)] = 1


class Batch(Part):
    """How many edges of a `specbench serve` share a pass, and how long one waits for others, at most.

    With one session every verification and step is a pass of its own.
    """

    sessions: Annotated[int, Field(ge=1, le=1024)] = 1
    wait_ms: Annotated[float, Field(ge=0, le=10_000)] = 5.0


class CloudSpec(ModelSpec):
    """The target model, in the cloud.

    `device_map`, `max_memory` (per device: a CUDA index or `cpu`) and `offload_folder` are accelerate's:
    they spread a target over devices and disk. They change where weights lie, never their precision.
    `parallel` splits every weight over several processes instead.

    `placement` is where the target runs: `in_process`, `process` (another one, started and stopped here), or
    the address of a `specbench serve`, to which `token_file` is the key. `on_cloud_loss` is what happens when
    it does not come back: the run ends (`fail`), waits for ever, or the draft goes on alone (lossy).

    With `backend: vllm`, `placement` is the address of a vLLM server, `http://host:port`. `model` and `dtype`
    then say what it was started with; only the tokenizer is read here.
    """

    backend: Literal["transformers", "vllm"] = "transformers"
    placement: Placement = "in_process"
    token_file: Name | None = None
    on_cloud_loss: Literal["fail", "wait", "edge_only"] = "fail"
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    max_memory: dict[str, MemorySize] | None = None
    offload_folder: Name | None = None
    batch: Batch = Batch()
    parallel: Parallel | None = None

    @field_validator("max_memory", mode="before")
    @classmethod
    def _device_names_are_text(cls, value: object) -> object:
        return {str(key): size for key, size in value.items()} if isinstance(value, dict) else value

    @property
    def is_elsewhere(self) -> bool:
        """Whether the target runs where somebody else started it."""
        return "://" in self.placement

    @property
    def ranks(self) -> int:
        """Processes that hold the weights together."""
        return self.parallel.tensor if self.parallel else 1

    @field_validator("placement")
    @classmethod
    def _an_address_is_one(cls, value: str) -> str:
        """The pattern knows how an address looks, and this what its numbers may be."""
        if "://" not in value:
            return value
        host, _, port = value.partition("://")[2].rpartition(":")
        if not 1 <= int(port) <= 65535:
            raise ValueError(f"port {port} is not among 1 to 65535")
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        elif not all(0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
            raise ValueError(f"{host} is no name of a host")
        return value

    @model_validator(mode="after")
    def _a_token_is_for_a_server(self) -> CloudSpec:
        if self.token_file is not None and not self.is_elsewhere:
            raise ValueError(f"token_file is for a cloud elsewhere, and placement is {self.placement}")
        if self.on_cloud_loss != "fail" and self.placement == "in_process":
            raise ValueError(f"on_cloud_loss: {self.on_cloud_loss} is for a cloud in another process")
        return self

    @model_validator(mode="after")
    def _a_vllm_server_has_its_own_settings(self) -> CloudSpec:
        is_http = self.placement.startswith("http")
        if (self.backend == "vllm") != is_http:
            no_server = "is not where a vLLM server listens: http://host:port"
            wanted = "is for backend: vllm" if is_http else no_server
            raise ValueError(f"backend is {self.backend}, and placement {self.placement} {wanted}")
        if self.backend != "vllm":
            return self
        for key in ("layers", "threads", "device_map", "parallel"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} is the vLLM server's own to set; drop it")
        if self.batch.sessions > 1:
            raise ValueError("batch is for 'specbench serve'; a vLLM server batches by itself")
        if self.on_cloud_loss != "fail":
            raise ValueError(f"on_cloud_loss: {self.on_cloud_loss} is for a cloud of 'specbench serve'")
        return self

    @model_validator(mode="after")
    def _placement_by_map(self) -> CloudSpec:
        if self.device_map is None and self.max_memory is not None:
            raise ValueError("max_memory needs a device_map, such as 'auto'")
        if self.device_map is None and self.offload_folder is not None:
            raise ValueError("offload_folder needs a device_map, such as 'auto'")
        if self.device_map is not None and self.device != "auto":
            raise ValueError(f"device_map and device: {self.device} both say where the model goes; drop one")
        if self.ranks > 1 and self.device_map is not None:
            raise ValueError("parallel and device_map both say where the weights go; drop one")
        if self.ranks > 1 and ":" in self.device:
            raise ValueError(f"parallel takes a device for each rank, and device is {self.device}; say cuda")
        if self.ranks > 1 and self.batch.sessions > 1:
            raise ValueError("batch shares the passes of one process, and parallel splits them; drop one")
        return self
