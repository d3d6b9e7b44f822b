"""The precision of a model in llama.cpp: what its file says, what was asked for, and what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.models.gguf_files import FLOATS, StoredTensor, counted
from specbench.precision.declared import in_words
from specbench.precision.finite_logits import logits_problem
from specbench.precision.loaded import problem_of
from specbench.precision.tensors import counted as with_one_more
from specbench.precision.tensors import dtype_name
from specbench.results.records import Audit, TensorGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from specbench.engine.llama_cpp import LlamaCppEngine

ROUNDED = {
    **dict.fromkeys(("F16", "BF16"), "{kind}"),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q8_1"), "Q8_1"),
    **dict.fromkeys(("Q1_0", "Q2_0", "Q4_0", "Q5_0", "Q8_0", "MXFP4", "NVFP4", "IQ4_NL"), "Q8_0"),
    **dict.fromkeys(
        (
            "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS",
            "IQ3_S", "IQ4_XS", "TQ1_0", "TQ2_0",
        ),
        "Q8_K",
    ),
}  # fmt: skip
"""What activations are rounded to where they meet weights of a type: `vec_dot_type` of ggml-cpu.c."""
UNKNOWN_ORDER = (
    "unknown: in which order llama.cpp's kernels add up, and whether they hold the weights in another layout"
)


def audit_llama_cpp(role: str, name: str, engine: LlamaCppEngine) -> Audit:
    """What is known of a model in llama.cpp, after a real forward pass of two tokens.

    Tensors are those of the file, for llama.cpp computes with them as they are stored. The cache's type is what
    llama.cpp was asked for.
    """
    loaded, header = engine.loaded, engine.loaded.header
    session = engine.session()
    logits = session.extend([0, 0])
    declared = dtype_name(loaded.dtype)
    kinds = ", ".join(counted(tensor.kind for tensor in header.quantized))
    odd = [tensor for tensor in header.tensors if FLOATS.get(tensor.kind, declared) != declared]
    # Norms and biases stay wide in every file, and so does what a converter finds too small to be quantised.
    wide = [tensor for tensor in odd if len(tensor.shape) == 1 or kinds]
    wrong = _groups(tensor for tensor in odd if tensor not in wide)
    numbers = header.cached_numbers * session.length
    cache = TensorGroup(
        declared, 2 * int(header.own("block_count", 0)), numbers * loaded.dtype.itemsize, "cache_k_l0"
    )
    return Audit(
        role=role,
        model=name,
        device=str(loaded.device),
        declared=in_words(declared, " and ".join(sorted({tensor.kind for tensor in header.quantized})) or None),
        vocabulary_size=engine.known_tokens,
        parameters=_groups(header.tensors),
        buffers=(),
        logits=dtype_name(logits.dtype),
        cache=(cache,),
        stored=header.kinds,
        problem=problem_of(role, declared, wrong),
        logits_problem=logits_problem(role, logits, (), declared),
        wrong=wrong,
        integers=_groups(header.quantized),
        widened=_groups(tensor for tensor in wide if FLOATS[tensor.kind] == "float32"),
        narrowed=_groups(tensor for tensor in wide if FLOATS[tensor.kind] != "float32"),
        quantization=f"GGUF: {kinds}" if kinds else None,
        attention=f"llama.cpp's (flash attention: {loaded.flash_attention})",
        computed=_computed(header.kinds),
    )


def _computed(kinds: Iterable[str]) -> tuple[str, ...]:
    """How ggml's CPU kernels compute with weights of these types."""
    lines = ["activations are held in float32, and attention meets a cache of the declared dtype"]
    for kind in (counted_kind.partition(" ")[0] for counted_kind in kinds):
        if kind in ("F32", "F64"):
            continue
        meant = ROUNDED.get(kind, "an unknown type").format(kind=kind)
        lines.append(f"activations are rounded to {meant} where they meet {kind} weights")
    return (*lines, UNKNOWN_ORDER)


def _groups(tensors: Iterable[StoredTensor]) -> tuple[TensorGroup, ...]:
    groups: dict[str, TensorGroup] = {}
    for tensor in tensors:
        groups = with_one_more(groups, tensor.name, FLOATS.get(tensor.kind, tensor.kind), tensor.nbytes)
    return tuple(groups.values())
