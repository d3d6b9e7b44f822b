"""Passes compiled ahead of time (AOTInductor) and kept on disk, so that the next start only loads them."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from specbench.engine import kernels
from specbench.engine.compiled import joined_products, rotations
from specbench.engine.compiled.layers import CannotCompileError
from specbench.engine.compiled.step import Step
from specbench.engine.program_cache import SCRATCH_PREFIX, mark_used, program_folder, tidy
from specbench.engine.quiet import hushed
from specbench.errors import SpecbenchError, first_line
from specbench.models.library import quiet_transformers

logger = logging.getLogger(__name__)

CONFIG = {
    # Weights stay where the model keeps them, one copy for all widths; freezing would pack one per width.
    "aot_inductor.package_constants_in_so": False,
    "freezing": False,
    # Numbers a thread must have before a loop wakes a second one: a step's norms and activations are smaller.
    "cpp.min_chunk_size": 8192,
}
# Kernels that a program calls by their C names, as Inductor spells operators.
C_NAMES = {
    "products": "AOTITorchError aoti_torch_cpu_products(AtenTensorHandle, const AtenTensorHandle*, int64_t, "
    "const AtenTensorHandle*, int64_t, const AtenTensorHandle*, int64_t, const int64_t*, int64_t, "
    "AtenTensorHandle*)",
    "stored": "AOTITorchError aoti_torch_cpu_stored(AtenTensorHandle, AtenTensorHandle*)",
    "attend": "AOTITorchError aoti_torch_cpu_attend(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle, "
    "AtenTensorHandle, double, AtenTensorHandle*)",
    "attend_within": "AOTITorchError aoti_torch_cpu_attend_within(AtenTensorHandle, AtenTensorHandle, "
    "AtenTensorHandle, AtenTensorHandle, double, int64_t, int64_t, double, const AtenTensorHandle*, int64_t, "
    "const AtenTensorHandle*, int64_t, int64_t, AtenTensorHandle*)",
    "experts": "AOTITorchError aoti_torch_cpu_experts(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle, "
    "int64_t, AtenTensorHandle*)",
    "experts_int8": "AOTITorchError aoti_torch_cpu_experts_int8(AtenTensorHandle, AtenTensorHandle, "
    "AtenTensorHandle, AtenTensorHandle, AtenTensorHandle*)",
    "experts_int4": "AOTITorchError aoti_torch_cpu_experts_int4(AtenTensorHandle, AtenTensorHandle, "
    "AtenTensorHandle, AtenTensorHandle, AtenTensorHandle, AtenTensorHandle*)",
}
# Operators of torch's own that compute every row as if it were alone, beside those on single numbers and views.
ROW_BY_ROW = {
    "__and__", "__rshift__", "_assert_scalar", "_assert_tensor_metadata", "arange", "argmax", "cat", "clone",
    "concat", "contiguous", "copy_", "dropout", "embedding", "full", "full_like", "gather", "index",
    "index_copy_", "index_select", "item", "layer_norm", "lift_fresh_copy", "max", "mean", "new_empty",
    "new_full", "ones", "ones_like", "polar", "repeat", "repeat_interleave", "rms_norm", "scalar_tensor",
    "scatter", "scatter_", "softmax", "stack", "sum", "sym_size", "topk", "type_as", "where", "zeros",
    "zeros_like",
}  # fmt: skip

OUR_CODE = (
    *("compiled/attention.py", "compiled/checks.py", "compiled/engine.py", "compiled/experts.py"),
    *("compiled/joined_products.py", "compiled/layers.py", "compiled/own_attention.py", "compiled/packed.py"),
    *(
        "compiled/programs.py",
        "compiled/rotations.py",
        "compiled/step.py",
        "hidden_states.py",
        "mixtures.py",
        "quantized.py",
    ),
)
"""In `engine`, what a compiled pass is made by."""


# How torch's exporter and its compiled code name sizes, guards and generated variables.
SHORTHAND = re.compile(r"\bEq\(|\b[su]\d+\b|\btmp\d+\b|run_func_")
NOT_FOR_ALL_LENGTHS = "torch cannot make one program of its pass that holds for every number of tokens"


def fingerprint(step: Step, settings: object) -> str:
    """What compiled code depends on: the model's code and shapes, our code, versions, processor, threads."""
    own = Path(__file__).parents[1]
    in_cpp = [path for suffix in ("cpp", "h") for path in sorted(own.glob(f"kernels/*.{suffix}"))]
    sources = [*(own / name for name in OUR_CODE), *in_cpp, Path(inspect.getfile(type(step.model)))]
    tensors = sorted([name, str(tensor.dtype), list(tensor.shape)] for name, tensor in step.tensors().items())
    facts = [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources],
        [type(step).__name__, step.model.config.to_json_string()],
        step.facts(),
        tensors,
        [torch.__version__, transformers.__version__, platform.python_version(), sys.platform],
        [kernels.processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        settings,
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:24]


class Program:
    """A compiled pass that reads the model's own weights; `kernels.load()` comes before it.

    Args:
        path: the package on disk.
        step: whose tensors it reads.
    """

    def __init__(self, path: Path, step: Step) -> None:
        self._program = torch.classes.specbench.Program(str(path), step.narrow)
        known = step.tensors()
        lifted = path.with_suffix(".constants")
        if lifted.is_file():
            known |= torch.load(lifted, weights_only=True)
        names = self._program.weights()
        self._program.read(names, [known[name] for name in names])

    def __call__(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """What `Step.forward` returns; `inputs` are its arguments, flattened."""
        return self._program.run(inputs)

    def draft(self, inputs: list[torch.Tensor], count: int) -> list[int]:
        """`count` most likely ids, each behind the one before, without a step of Python between them.

        It ends before a token whose logit is not finite, so that fewer come.

        Args:
            inputs: those of the first pass, which asks for the last row alone.
        """
        return self._program.draft(inputs, count)


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Whatever torch, the disk or the model's own code raises is a reason not to compile.

    Raises:
        CannotCompileError: the first line of what they said, or what torch's own shorthand means.
    """
    try:
        yield
    except (MemoryError, SpecbenchError, CannotCompileError):
        raise
    except Exception as error:
        said = first_line(error)
        raise CannotCompileError(NOT_FOR_ALL_LENGTHS if SHORTHAND.search(said) else said) from error


def is_kept(key: str) -> bool:
    """Whether a program of this `fingerprint` lies on disk."""
    return _path(key).is_file()


def program(step: Step, arguments: tuple, dynamic_shapes: tuple, key: str, invariant: bool) -> Program:
    """The compiled pass: from disk, or made now.

    Args:
        arguments: an example of what `Step.forward` receives.
        dynamic_shapes: which of their dimensions vary, as `torch.export` takes them.
        key: `fingerprint` of all that it depends on.
        invariant: whether each row must be computed in an order that does not depend on the others.

    Raises:
        CannotCompileError: the pass cannot be made invariant.
        Exception: whatever torch or the model's own code raises; see `reasons`.
    """
    path = _path(key)
    folder = path.parent
    if path.is_file():
        mark_used(path)
        try:
            return Program(path, step)
        except Exception:  # cut short, or damaged otherwise
            logger.warning("%s cannot be loaded, and is made anew", path)
    logger.info("compiling %s: a minute or two, once, kept in %s", type(step.model).__name__, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH_PREFIX) as scratch:
        made = Path(scratch) / path.name
        with hushed():
            _compile(step, arguments, dynamic_shapes, invariant, made)
        found = Program(made, step)
        for part in (made.with_suffix(".constants"), made):  # the package last: with it all is complete
            if part.is_file():
                part.replace(folder / part.name)
    tidy(folder)
    return found


def _path(key: str) -> Path:
    return program_folder() / f"{key}.pt2"


def _compile(step: Step, arguments: tuple, dynamic_shapes: tuple, invariant: bool, made: Path) -> None:
    with torch.no_grad(), quiet_transformers():
        exported = torch.export.export(step, arguments, dynamic_shapes=dynamic_shapes, strict=False)
    if invariant:
        _demand_invariant(exported.graph)
    joined_products.join_products(exported)
    rotations.simplify_rotations(exported)
    torch._inductor.aoti_compile_and_package(exported, package_path=str(made), inductor_configs=_config())
    known = step.tensors()
    lifted = {name: tensor for name, tensor in exported.constants.items() if name not in known}
    if lifted:
        torch.save(lifted, made.with_suffix(".constants"))


def _config() -> dict[str, object]:
    ops = torch.ops.specbench
    shims = {getattr(ops, name).default: [declaration] for name, declaration in C_NAMES.items()}
    return CONFIG | {"aot_inductor.custom_ops_to_c_shims": shims}


def _demand_invariant(graph: torch.fx.Graph) -> None:
    """Refuse a pass with an operator that is not known to compute rows one by one.

    Raises:
        CannotCompileError: which operator it is.
    """
    for node in graph.nodes:
        if node.op == "call_function" and not _is_row_by_row(node):
            name = node.target.__name__.partition(".")[0]
            raise CannotCompileError(f"torch's {name} may compute a row differently beside other rows")


def _is_row_by_row(node: torch.fx.Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)  # else it computes sizes
    name = target.__name__.partition(".")[0]
    if name in ("matmul", "mm", "bmm"):  # rotary tables are products of single numbers
        value = getattr(node.args[0], "meta", {}).get("val")
        return value is not None and value.shape[-1] == 1
    aliases = [result.alias_info for result in target._schema.returns]
    is_view = any(alias and not alias.is_write for alias in aliases)
    is_ours, is_single = target.namespace == "specbench", torch.Tag.pointwise in target.tags
    return is_ours or is_single or is_view or (target.namespace == "aten" and name in ROW_BY_ROW)
