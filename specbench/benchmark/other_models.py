"""Models in this process that the run did not load: nobody knows what they compute, or in which precision."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from specbench.benchmark.preparation import Prepared
from specbench.results.provenance import OtherModel

if TYPE_CHECKING:
    from torch import nn

# What torch makes of a model that it exports holds the same weights in other objects.
MADE_BY_TORCH = ("torch.fx", "torch.export")


class ModelWatch:
    """Finds models that appear while a run goes on, and says beside which method.

    What was in the process before the run is not its business, but for what a plugin holds in its module.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        gc.collect()
        self._seen: WeakSet[nn.Module] = WeakSet(_roots())
        self.found: list[OtherModel] = []
        for method in prepared.methods:
            held = vars(sys.modules.get(type(method).__module__, sys)).values()
            self._note(method.name, _models(held))

    def look(self, method: str | None) -> None:
        """Note every model that is new since the last look; `None` where any method may have loaded it."""
        gc.collect()
        self._note(method, (model for model in _roots() if model not in self._seen))

    def _note(self, method: str | None, models: Iterable[nn.Module]) -> None:
        roles = dict.fromkeys(("edge", "cloud", *self._prepared.roles))
        factories = [self._prepared.factory(role) for role in roles]
        known = [held.model for each in factories if each.is_here and (held := each.in_memory)]
        ours = {id(tensor) for model in known for tensor in model.parameters()}
        for model in models:
            self._seen.add(model)
            weights = [tensor for tensor in model.parameters() if id(tensor) not in ours]
            if weights:
                dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights})
                size = sum(tensor.numel() for tensor in weights)
                self.found.append(OtherModel(method, type(model).__name__, ", ".join(dtypes), size))


def _roots() -> Iterator[nn.Module]:
    """Modules that no other module holds."""
    modules = list(_models(gc.get_objects()))
    parts = [_parts(module) for module in modules]
    inner = set().union(*(each for each in parts if each))
    for module, own in zip(modules, parts, strict=True):
        is_made = own is not None
        if is_made and id(module) not in inner and not type(module).__module__.startswith(MADE_BY_TORCH):
            yield module


def _parts(module: nn.Module) -> set[int] | None:
    """The ids of the modules that it holds; `None` while it is being made, and has no place for them yet."""
    from torch import nn

    try:
        next(nn.Module.parameters(module, recurse=False), None)
        return {id(part) for part in nn.Module.children(module)}
    except AttributeError:
        return None


def _models(objects: Iterable[Any]) -> Iterator[nn.Module]:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for each in objects:
        if issubclass(type(each), torch.nn.Module):  # isinstance would ask proxies what they stand for
            yield each
