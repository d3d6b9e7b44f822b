"""Finds methods: ours, other packages', and single files; one broken plugin never breaks another."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pluggy

from specbench import __version__, hookspecs
from specbench.api import API_VERSION, Method
from specbench.errors import ExitCode, SpecbenchError, nearest

ENTRY_POINT_GROUP = "specbench"


@dataclass(frozen=True)
class Plugin:
    """Where a method came from, and why it is unusable if it is."""

    name: str
    source: str
    version: str
    method: Method | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass
class Registry:
    """All plugins that were found, usable or not, by method name."""

    plugins: dict[str, Plugin] = field(default_factory=dict)

    @property
    def methods(self) -> dict[str, Method]:
        """The usable methods by name."""
        return {name: plugin.method for name, plugin in self.plugins.items() if plugin.method}

    def add(self, plugin: Plugin) -> None:
        """Take a plugin in; a broken one never takes the name of one that works.

        Raises:
            SpecbenchError: two usable plugins bring a method of one name.
        """
        other = self.plugins.get(plugin.name)
        if other and other.method and plugin.method:
            raise SpecbenchError(
                f"two plugins bring a method '{plugin.name}': {other.source} and {plugin.source}",
                "rename one of them",
                ExitCode.PLUGIN,
            )
        if other and other.method:
            self.plugins[f"{plugin.name} ({plugin.source})"] = plugin
        else:
            if other:
                self.plugins[f"{other.name} ({other.source})"] = other
            self.plugins[plugin.name] = plugin

    def get(self, name: str) -> Method:
        """The method called `name`; dashes are understood as underscores.

        Raises:
            SpecbenchError: there is none, or its plugin is broken.
        """
        name = name.replace("-", "_")
        plugin = self.plugins.get(name)
        if plugin is None:
            raise SpecbenchError(f"there is no method '{name}'", nearest(name, self.methods))
        if plugin.method is None:
            raise SpecbenchError(
                f"the plugin of method '{name}' ({plugin.source}) is broken: {plugin.error}\n"
                f"{plugin.traceback}",
                "mend it, or remove it; 'specbench plugins' lists all",
                ExitCode.PLUGIN,
            )
        return plugin.method


def discover(files: Sequence[Path] = ()) -> Registry:
    """Find first-party methods, those of the entry-point group `specbench`, and the given files.

    Raises:
        SpecbenchError: two plugins bring a method of one name, or a given file does not exist.
    """
    for file in files:
        if not file.is_file():
            raise SpecbenchError(f"plugin file {file} does not exist")
    manager = pluggy.PluginManager("specbench")
    manager.add_hookspecs(hookspecs)
    registry = Registry()
    for name, source, version, load in _candidates(files):
        registry.add(_load(manager, name, source, version, load))
    return registry


def _candidates(files: Sequence[Path]) -> list[tuple[str, str, str, Callable[[], object]]]:
    """Name, source, version and loader of every plugin, none of them imported yet."""
    found: list[tuple[str, str, str, Callable[[], object]]] = []
    package = importlib.import_module("specbench.plugins")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        path = f"specbench.plugins.{module.name}"
        found.append((module.name, path, __version__, lambda path=path: importlib.import_module(path)))
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        owner = point.dist.name if point.dist else "an unknown package"
        version = point.dist.version if point.dist else "unknown"
        found.append((point.name, f"{point.value} of {owner}", version, point.load))
    for file in files:
        found.append((file.stem, str(file), "file", lambda file=file: _import_file(file)))
    return found


def _load(
    manager: pluggy.PluginManager, name: str, source: str, version: str, load: Callable[[], object]
) -> Plugin:
    try:
        module = load()
        manager.register(module, name=source)
        implementations = [
            implementation
            for implementation in manager.hook.specbench_method.get_hookimpls()
            if implementation.plugin is module
        ]
        if not implementations:
            raise TypeError("it has no specbench_method() marked with @hookimpl")
        method = implementations[0].function()
        _demand_method(method)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Plugin(name, source, version, error=reason, traceback=traceback.format_exc().rstrip())
    return Plugin(method.name, source, version, method=method)


def _demand_method(method: object) -> None:
    if not isinstance(method, Method):
        raise TypeError(f"specbench_method() returned {type(method).__name__}, not a Method")
    for attribute in ("name", "summary", "roles"):
        if not getattr(method, attribute, None):
            raise TypeError(f"its method has no {attribute}")
    if not set(method.roles) <= {"edge", "cloud"}:
        raise TypeError(f"roles are {method.roles}; a role is 'edge' or 'cloud'")
    if method.api_version != API_VERSION:
        raise TypeError(f"it was written for API version {method.api_version}; this is version {API_VERSION}")


def _import_file(path: Path) -> ModuleType:
    name = f"specbench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
