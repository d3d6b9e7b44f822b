"""Which models a profile runs, where, and how they are held."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from specbench.profile.part import MemorySize, Name, Part

Dtype = Literal["float32", "float16", "bfloat16", "float64"]
Quantization = Literal["int8", "int4"]
Device = Annotated[
    str,
    StringConstraints(pattern=r"^(cpu|auto|cuda(:\d+)?)$"),
    Field(examples=["cpu", "auto", "cuda", "cuda:0"]),
]
Placement = Annotated[
    str,
    StringConstraints(pattern=r"^(in_process|process|(ws|http)s?://(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5})$"),
    Field(examples=["in_process", "process", "ws://host:8470", "wss://host:8470", "http://host:8000"]),
]


DEVICE = "`auto` is the first CUDA device, or the CPU where there is none."


class ModelSpec(Part):
    """Which model a role runs and how it is held."""

    model: Name = Field(
        description="`embedded:NAME` (`specbench models` lists them), a local folder in Hugging Face "
        "format, a GGUF file (or the first of a split set, or a folder with one), or a hub id."
    )
    layers: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Keep only this many transformer layers, from the first on. Architectures that cannot "
        "be cut are refused.",
    )
    revision: Name | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(
        default=False,
        description="Run Python code from the model's folder. Without it, a model that needs such code is "
        "refused.",
    )
    dtype: Dtype = Field(default="float32", description="Precision of weights, activations and cache.")
    device: Device = Field(default="auto", description=DEVICE)
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description="Compute threads. null leaves the choice to torch. With `cloud.placement: in_process` "
        "both models share them and must not differ. With `cloud.parallel`, threads of each rank.",
    )


HELPERS = "edge.helpers."
"""What the role of a further draft model begins with: its place in the profile."""


class EdgeSpec(ModelSpec):
    """The draft model, on the edge device."""

    backend: Literal["transformers", "llama_cpp"] = Field(
        default="transformers",
        description="`llama_cpp` drafts in llama.cpp with the types of a GGUF file, on the CPU. `dtype` is "
        "then that of the cache. Needs `pip install 'specbench[llama-cpp]'`.",
    )
    device: Device = Field(default="cpu", description=DEVICE)
    vocab_map: Name | None = Field(
        default=None,
        description="File that maps the vocabulary of a smaller draft to the target's, as `specbench "
        "distill` writes it: a path, or a file name in the model's folder. Such a draft uses the target's "
        "tokenizer.",
    )
    quantization: Quantization | None = Field(
        default=None,
        description="Hold the matrices in 8 bits (a scale per row) or 4 bits (a scale and an offset per 32 "
        "weights), and compute in float32. CPU and float32 only. Needs a C++ compiler.",
    )
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        default=None,
        description="Processors that the edge's process may use, such as `[0, 1]`. Needs the cloud in "
        "another process.",
    )
    memory_limit: MemorySize | None = Field(
        default=None, description="Memory that the edge's process may use. Needs the cloud in another process."
    )
    helpers: dict[Name, EdgeSpec] | None = Field(
        default=None,
        description="Further draft models by name, for methods that load one, such as `small: {model: "
        "./small-draft}`. They run in the edge's process.",
    )

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
    def _llama_cpp_runs_a_file_as_it_is(self) -> EdgeSpec:
        if self.backend != "llama_cpp":
            return self
        for key in ("layers", "quantization"):
            if getattr(self, key) is not None:
                raise ValueError(
                    f"backend: llama_cpp runs the file as it is; drop {key}, or convert another file"
                )
        if self.device != "cpu" or self.dtype == "float64":
            wrong = f"dtype is {self.dtype}" if self.device == "cpu" else f"device is {self.device}"
            raise ValueError(
                "backend: llama_cpp computes on the CPU, with a cache in float32, float16 or bfloat16; " + wrong
            )
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
    """How a target is split over processes."""

    tensor: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1, description="Number of ranks: processes that each hold a share of every weight."
    )


class Batch(Part):
    """How edges of a `specbench serve` share passes of the target."""

    sessions: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1,
        description="Largest number of edges that share a pass. With 1, every edge has passes of its own.",
    )
    wait_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        default=5.0, description="Longest time that an edge waits for others to share its pass."
    )


class CloudSpec(ModelSpec):
    """The target model, in the cloud."""

    backend: Literal["transformers", "openai"] = Field(
        default="transformers",
        description="`openai` asks a server of another engine: vLLM, llama.cpp, any with OpenAI's completions. "
        "`model` and `dtype` then say what that server runs, and only the tokenizer is read here.",
    )
    placement: Placement = Field(
        default="in_process",
        description="Where the target runs: in this process, in a process that the run starts and ends, at "
        "the address of a `specbench serve` (ws, wss), or at that of another engine's server (http, https).",
    )
    token_file: Name | None = Field(
        default=None, description="File with the token or the API key of the server."
    )
    on_cloud_loss: Literal["fail", "wait", "edge_only"] = Field(
        default="fail",
        description="When a lost cloud does not come back: end the run, wait without a limit, or let the "
        "draft finish alone, which is lossy.",
    )
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = Field(
        default=None,
        description="Spread the target over devices and disk, as accelerate does. It changes where weights "
        "lie, never their precision.",
    )
    max_memory: dict[str, MemorySize] | None = Field(
        default=None, description="Memory of each device, by CUDA index or `cpu`. Needs `device_map`."
    )
    offload_folder: Name | None = Field(
        default=None,
        description="Folder for weights that must be converted while they are read. Needs `device_map`.",
    )
    batch: Batch = Batch()
    parallel: Parallel | None = Field(
        default=None,
        description="Split every weight over several processes. Needs the cloud in another process.",
    )

    @field_validator("backend", mode="before")
    @classmethod
    def _vllm_is_one_of_many(cls, value: object) -> object:
        if value == "vllm":
            raise ValueError("vllm is now openai, which asks the server at cloud.placement what it is")
        return value

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
    def _another_server_has_its_own_settings(self) -> CloudSpec:
        is_http = self.placement.startswith("http")
        if (self.backend == "openai") != is_http:
            no_server = "is not where such a server listens: http://host:port"
            wanted = "is for backend: openai" if is_http else no_server
            raise ValueError(f"backend is {self.backend}, and placement {self.placement} {wanted}")
        if self.backend != "openai":
            return self
        for key in ("layers", "threads", "device_map", "parallel"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} is the server's own to set; drop it")
        if self.batch.sessions > 1:
            raise ValueError("batch is for 'specbench serve'; this server batches by itself")
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
