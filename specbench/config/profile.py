"""The profile's fields, their types, and the settings that contradict each other."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from specbench.config import vllm
from specbench.config.cluster import ClusterSpec
from specbench.config.link import LinkSpec
from specbench.config.parallel import Parallel
from specbench.config.part import MemorySize, Name, Part

Dtype = Literal["float32", "float16", "bfloat16", "float64"]
Quantization = Literal["int8", "int4"]
Device = Annotated[str, StringConstraints(pattern=r"^(cpu|auto|cuda(:\d+)?)$")]
Placement = Annotated[
    str,
    StringConstraints(pattern=r"^(in_process|process|(ws|http)s?://(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5})$"),
]
LONGEST_DRAFT = 64


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


class EdgeSpec(ModelSpec):
    """The draft model, on the edge device.

    `vocab_map` is the file, in the model's folder or elsewhere, that says which of the target's tokens a draft
    with a vocabulary of its own can say; such a draft uses the target's tokenizer. `quantization` holds the
    matrices in eight bits (a scale per row) or four (a scale and an offset per 32 weights) and computes in
    float32, on the CPU. `cpus` are the processors, by number, and `memory_limit` the memory that the edge's
    process may use.
    """

    device: Device = "cpu"
    vocab_map: Name | None = None
    quantization: Quantization | None = None
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    memory_limit: MemorySize | None = None

    @model_validator(mode="after")
    def _quantised_weights_meet_float32_numbers(self) -> EdgeSpec:
        if self.quantization and (self.dtype != "float32" or self.device != "cpu"):
            raise ValueError(
                f"quantization: {self.quantization} computes in float32 on the CPU; "
                f"dtype is {self.dtype} and device is {self.device}"
            )
        return self


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
        vllm.demand_address(self)
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


class EngineSpec(Part):
    """What runs the forward passes, for the control and for speculation alike.

    `eager` is transformers' own forward pass. `compiled` compiles whole passes, once per model and machine.
    `batch_invariant` makes every row of a verification bit for bit the row of a single step.
    `check_cache` asserts cache lengths after every round, off the clock.
    """

    kind: Literal["eager", "compiled"] = "eager"
    batch_invariant: bool = False
    check_cache: bool = True

    @model_validator(mode="after")
    def _torch_has_no_invariant_kernels(self) -> EngineSpec:
        if self.batch_invariant and self.kind == "eager":
            raise ValueError("batch_invariant needs kind: compiled; torch's own kernels depend on the width")
        return self


class Workload(Part):
    """Which prompts, how many, how long, how often.

    `prompts` is `builtin` or the path of a JSONL file in Spec-Bench's format. `limit` takes that many,
    stratified over the categories; `warmup` generations per method are run and thrown away.
    """

    prompts: Name = "builtin"
    limit: Annotated[int, Field(ge=1)] | None = 12
    max_new_tokens: Annotated[int, Field(ge=1)] = 96
    warmup: Annotated[int, Field(ge=0)] = 1
    repeats: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Decoding(Part):
    """How a token is chosen from logits; temperature 0 is greedy. `top_k: 0` and `top_p: 1` are off."""

    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] = 1.0

    @model_validator(mode="after")
    def _greedy_ignores_nothing(self) -> Decoding:
        if self.temperature == 0 and (self.top_p != 1 or self.top_k != 0):
            raise ValueError("top_p and top_k have no effect at temperature 0 (greedy); drop them or raise it")
        return self


class Gate(Part):
    """When the draft is so sure of all its tokens that the round is not verified. Lossy.

    `entropy`: at most `threshold` nats; `margin`: the two highest probabilities are at least so far apart;
    `log_probability`: the token has at least so much, in nats. All at temperature 1 where decoding is greedy.
    """

    measure: Literal["entropy", "margin", "log_probability"]
    threshold: float


class Speculative(Part):
    """How drafted tokens are proposed and verified.

    `draft_length` is 1 to 64 tokens a round, or `auto`: chosen for each round by what its text has shown.
    `rank` is how many of the target's most likely tokens the rule of that name accepts; `typical_epsilon` and
    `typical_delta` are the thresholds of the rule `typical`.
    """

    draft_length: int | Literal["auto"] = 4
    verification: Literal["greedy", "rejection", "one_hot", "block", "coupled", "rank", "typical"] = "greedy"
    gate: Gate | None = None
    rank: Annotated[int, Field(ge=1)] = 20
    typical_epsilon: Annotated[float, Field(gt=0, le=1)] = 0.09
    typical_delta: Annotated[float, Field(gt=0, le=1)] = 0.3

    @field_validator("draft_length", mode="before")
    @classmethod
    def _a_number_or_auto(cls, value: object) -> object:
        # pydantic would report one error for each type of a union, neither of them naming both.
        if value != "auto" and (type(value) is not int or not 1 <= value <= LONGEST_DRAFT):
            raise ValueError(f"Input should be a valid integer from 1 to {LONGEST_DRAFT}, or auto")
        return value


class Precision(Part):
    """What must agree before anything is timed.

    `edge_cloud`: edge and cloud have one precision. `per_role`: each role is the same across methods.
    `off`: nothing is demanded, and every table says so. `allow_tf32` sets every switch that rules what float32
    is computed as; autocast is never allowed.
    """

    parity: Literal["edge_cloud", "per_role", "off"] = "edge_cloud"
    allow_tf32: bool = False


class Memory(Part):
    """How memory is watched."""

    monitor_interval_ms: Annotated[int, Field(ge=20, le=60_000)] = 200


class Profile(Part):
    """Everything that a run depends on. Only the two models have no default."""

    edge: EdgeSpec
    cloud: CloudSpec
    link: LinkSpec = LinkSpec()
    engine: EngineSpec = EngineSpec()
    workload: Workload = Workload()
    decoding: Decoding = Decoding()
    speculative: Speculative = Speculative()
    precision: Precision = Precision()
    memory: Memory = Memory()
    cluster: ClusterSpec = ClusterSpec()

    @model_validator(mode="after")
    def _one_process_has_one_thread_count(self) -> Profile:
        edge, cloud = self.edge.threads, self.cloud.threads
        if self.cloud.placement != "in_process":
            return self
        if edge is not None and cloud is not None and edge != cloud:
            raise ValueError(
                f"edge.threads is {edge} and cloud.threads is {cloud}, but both models run in one process, "
                "whose threads are shared; give one number"
            )
        return self

    @model_validator(mode="after")
    def _a_small_edge_has_a_process_of_its_own(self) -> Profile:
        for key in ("cpus", "memory_limit"):
            if getattr(self.edge, key) is not None and self.cloud.placement == "in_process":
                raise ValueError(
                    f"edge.{key} confines the process that runs the edge, and with cloud.placement: in_process "
                    "the cloud runs in it too; set cloud.placement=process"
                )
        return self

    @model_validator(mode="after")
    def _packets_need_two_ends(self) -> Profile:
        kind, placement = self.link.kind, self.cloud.placement
        if kind == "emulated" and placement != "process":
            raise ValueError("link.kind: emulated lies between two processes; set cloud.placement=process")
        if kind == "real" and not self.cloud.is_elsewhere:
            raise ValueError(
                "link.kind: real lies between two hosts; cloud.placement is the other one's address"
            )
        return self

    @model_validator(mode="after")
    def _a_vllm_server_is_greedy(self) -> Profile:
        vllm.demand_greedy(self)
        return self

    @property
    def threads(self) -> int | None:
        """Compute threads of the edge's process, or `None` for torch's own choice."""
        if self.cloud.placement != "in_process":
            return self.edge.threads
        return self.edge.threads if self.edge.threads is not None else self.cloud.threads
