"""Products that share their input, in one call: a pass wakes its threads once for query, key and value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from torch._ops import OpOverload
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

# Operands of `specbench::products` that the operators of one quantised weight have beside it.
QUANTISED = ("linear_int8", "linear_int4")


def join_products(exported: ExportedProgram) -> None:
    """Let all products of one input and one kind of weight be one `specbench::products`, where the first stood.

    The weights stay where they are, and each result has the numbers and the layout that it had.
    """
    graph = exported.graph
    groups: dict[tuple, list[tuple[Node, tuple]]] = {}
    for node in graph.nodes:
        if operands := _operands(node):
            known_early = all(
                part.op in ("placeholder", "get_attr") for part in operands[:3] if part is not None
            )
            key = node.args[0], node.target, None if known_early else node
            groups.setdefault(key, []).append((node, operands))
    for group in groups.values():
        _join(group)
    graph.lint()
    exported.graph_module.recompile()


def call(graph: Graph, target: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """A call of an operator where the graph inserts, which knows the shape of its result."""
    made = graph.call_function(target, args, kwargs)
    made.meta["val"] = target(*torch.fx.map_arg(args, lambda node: node.meta["val"]), **kwargs)
    return made


def _operands(node: Node) -> tuple | None:
    """Weight, scales, offsets and widest product of a node that multiplies by one weight."""
    if node.op != "call_function":
        return None
    if node.target is torch.ops.specbench.products.default:
        (weight,), _, _, (widest,) = cast(Any, node.args[1:])
        return weight, None, None, widest
    if any(node.target is getattr(torch.ops.specbench, name).default for name in QUANTISED):
        return (*(*node.args[1:], None)[:3], None)
    return None


def _join(group: list[tuple[Node, tuple]]) -> None:
    first = group[0][0]
    graph, x = first.graph, first.args[0]  # which may be a product, and another node than it was
    lists = [
        [part for part in parts if part is not None] for parts in zip(*(one for _, one in group), strict=True)
    ]

    with graph.inserting_before(first):
        product = call(graph, torch.ops.specbench.products.default, x, *lists)
        begin = 0
        for node, (weight, *_) in group:
            end = begin + weight.meta["val"].shape[0]
            part = product
            if len(group) > 1:
                part = call(graph, torch.ops.aten.slice.Tensor, product, -1, begin, end)
                part = call(graph, torch.ops.aten.clone.default, part, memory_format=torch.contiguous_format)
            node.replace_all_uses_with(part)
            begin = end
    for node, _ in group:
        graph.erase_node(node)
