"""Rotary positions as a compiler computes them best: tables once a pass, and halves exchanged in place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from specbench.engine.compiled import joined_products

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    Node = Any  # torch.fx types an argument as one of eighteen things

aten: Any = torch.ops.aten


def simplify_rotations(exported: ExportedProgram) -> None:
    """Keep sines and cosines in memory, and turn vectors without copies of their halves.

    Inductor computes a table anew wherever it is read, in every layer, and makes two buffers and two loops of
    each `cat((-x2, x1))`. Every number has the bits that it had.
    """
    graph = exported.graph
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in (aten.cos.default, aten.sin.default):
            with graph.inserting_after(node):
                stored = graph.call_function(torch.ops.specbench.stored.default, (node,))
            stored.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(stored, delete_user_cb=lambda user, kept=stored: user is not kept)
        elif (turned := _turned(node)) is not None:
            _exchange_halves(node, turned)
    graph.lint()
    exported.graph_module.recompile()


def _turned(node: Node) -> Node | None:
    """The x of `cat((-x[..., half:], x[..., :half]), -1)`."""
    if node.target is not aten.cat.default:
        return None
    parts, *dimension = node.args
    size = node.meta["val"].dim()
    if len(dimension) != 1 or dimension[0] not in (-1, size - 1) or not isinstance(parts, list | tuple):
        return None
    if len(parts) != 2 or parts[0].target is not aten.neg.default:
        return None
    (last,), first = parts[0].args, parts[1]
    if not (_is_slice(last, size) and _is_slice(first, size) and last.args[0] is first.args[0]):
        return None
    x = first.args[0]
    width = x.meta["val"].shape[-1]
    if not isinstance(width, int) or width % 2:
        return None
    half = width // 2
    is_first = first.args[2] in (0, None) and first.args[3] == half
    is_last = last.args[2] == half and (len(last.args) < 4 or last.args[3] >= width)
    return x if is_first and is_last else None


def _is_slice(node: Any, size: int) -> bool:
    return node.target is aten.slice.Tensor and len(node.args) >= 3 and node.args[1] in (-1, size - 1)


def _exchange_halves(node: Node, x: Node) -> None:
    value, call = x.meta["val"], partial(joined_products.call, node.graph)
    half = value.shape[-1] // 2
    with node.graph.inserting_before(node):
        signs = call(aten.arange.default, 2, dtype=value.dtype, device=value.device)
        signs = call(aten.unsqueeze.default, call(aten.sub.Tensor, call(aten.mul.Tensor, signs, 2), 1), -1)
        halves = call(aten.flip.default, call(aten.unflatten.int, x, -1, [2, half]), [-2])
        exchanged = call(aten.flatten.using_ints, call(aten.mul.Tensor, halves, signs), -2)
    node.replace_all_uses_with(exchanged)
    node.graph.erase_node(node)
