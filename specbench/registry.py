"""Finds methods: ours, other packages', and single files; one broken plugin never breaks another."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pluggy

from specbench import __version__, blame, hooks
from specbench.api import API_VERSION, Method, Options
from specbench.errors import ExitCode, SpecbenchError, nearest
from specbench.profile import Part, Profile
from specbench.results.provenance import MethodSource
from specbench.results.sources import source_of

ENTRY_POINT_GROUP = "specbench"
OF_A_FILE = "file"  # the version of what --plugin names


@dataclass(frozen=True)
class Plugin:
    """Where a method came from, and why it is unusable if it is.

    Args:
        source: where it lies, in words.
        origin: the distribution, or the file without its folder.
    """

    name: str
    source: str
    version: str
    origin: str
    method: Method | None = None
    error: str | None = None
    traceback: str | None = None
    module: ModuleType | None = None

    @property
    def code(self) -> MethodSource:
        """What its source is now."""
        return source_of(self.origin, self.version, self.module)


@dataclass
class Registry:
    """All plugins that were found, usable or not, by method name."""

    plugins: dict[str, Plugin] = field(default_factory=dict)

    @property
    def methods(self) -> dict[str, Method]:
        """The usable methods by name."""
        return {name: plugin.method for name, plugin in self.plugins.items() if plugin.method}

    def add(self, plugin: Plugin) -> None:
        """Take a plugin in; a broken one never takes the name of one that works."""
        other = self.plugins.get(plugin.name)
        if other and other.method:
            self.plugins[f"{plugin.name} ({plugin.source})"] = plugin
        else:
            if other:
                self.plugins[f"{other.name} ({other.source})"] = other
            self.plugins[plugin.name] = plugin

    def get(self, name: str) -> Method:
        """The method called `name`; dashes are understood as underscores.

        Raises:
            SpecbenchError: there is none, or its plugin is broken, or two plugins bring it.
        """
        name = name.replace("-", "_")
        plugin = self.plugins.get(name)
        if plugin is None:
            absent = f"there is no method '{name}'"
            for given in self.plugins.values():
                if given.version == OF_A_FILE and given.error:  # it may have been meant to bring it
                    raise _broken(f"{absent}, and {given.source} is broken", given)
            raise SpecbenchError(absent, nearest(name, self.methods))
        if plugin.method is None:
            raise _broken(f"the plugin of method '{name}' ({plugin.source}) is broken", plugin)
        return plugin.method

    def demand_settings(self, profile: Profile) -> None:
        """Refuse options of a method that is not there, or that the method does not have.

        Raises:
            SpecbenchError: naming the method or the option, and the nearest valid name.
        """
        for name in profile.methods:
            method = self.methods.get(name)
            if method is None and name not in self.plugins:
                raise SpecbenchError(
                    f"methods.{name}: there is no method '{name}'",
                    nearest(name, self.methods),
                    ExitCode.PROFILE,
                )
            if method:
                method.own(Options.of(profile), method.settings)


@contextmanager
def blaming(method: Method) -> Iterator[None]:
    """Around what a method says of itself: its own mistake is no fault of specbench.

    Raises:
        SpecbenchError: as the method raised it, or naming the method and what it raised.
    """
    try:
        yield
    except SpecbenchError:
        raise
    except Exception as error:
        where = blame.place_of(error, method.__module__)
        raise SpecbenchError(
            f"method {method.name} is broken: {type(error).__name__}: {error} ({where})",
            "fix it, or leave it out; 'specbench --debug ...' shows the traceback",
            ExitCode.PLUGIN,
        ) from error


def discover(files: Sequence[Path] = ()) -> Registry:
    """Find first-party methods, those of the entry-point group `specbench`, and the given files.

    Raises:
        SpecbenchError: a given file does not exist.
    """
    for file in files:
        if not file.is_file():
            raise SpecbenchError(f"plugin file {file} does not exist")
    manager = pluggy.PluginManager("specbench")
    manager.add_hookspecs(hooks)
    registry = Registry()
    found = [plugin for candidate in _candidates(files) for plugin in _load(manager, *candidate)]
    for plugin in found:
        rivals = [each.source for each in found if each.method and each.name == plugin.name]
        if plugin.method and len(rivals) > 1:
            clash = f"{len(rivals)} plugins bring a method of this name: {' and '.join(rivals)}"
            plugin = replace(plugin, method=None, error=clash)
        registry.add(plugin)
    return registry


def _broken(said: str, plugin: Plugin) -> SpecbenchError:
    lines = filter(None, (f"{said}: {plugin.error}", plugin.traceback))
    return SpecbenchError("\n".join(lines), "fix or remove it; 'specbench plugins' lists all", ExitCode.PLUGIN)


def _candidates(files: Sequence[Path]) -> list[tuple[Plugin, Callable[[], object]]]:
    """Every plugin and its loader, none of them imported yet."""
    found: list[tuple[Plugin, Callable[[], object]]] = []
    package = importlib.import_module("specbench.plugins")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        path = f"specbench.plugins.{module.name}"
        plugin = Plugin(module.name, path, __version__, "specbench")
        found.append((plugin, partial(importlib.import_module, path)))
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        owner = point.dist.name if point.dist else "an unknown package"
        version = point.dist.version if point.dist else "unknown"
        found.append((Plugin(point.name, f"{point.value} of {owner}", version, owner), point.load))
    for file in files:
        plugin = Plugin(file.stem, str(file), OF_A_FILE, file.name)
        found.append((plugin, partial(_import_file, file)))
    return found


def _load(manager: pluggy.PluginManager, plugin: Plugin, load: Callable[[], object]) -> list[Plugin]:
    """The plugin once for each method that its hook returns; once, and broken, where it returns none."""
    try:
        module = load()
        manager.register(module, name=plugin.source)
        implementations = [
            implementation
            for implementation in manager.hook.specbench_method.get_hookimpls()
            if implementation.plugin is module
        ]
        if not implementations:
            raise TypeError("it has no specbench_method() marked with @hookimpl")
        returned = implementations[0].function()
        methods = list(returned) if isinstance(returned, (list, tuple)) else [returned]
        if not methods:
            raise TypeError("specbench_method() returned no method")
    except (Exception, SystemExit) as error:
        return [_failed(plugin, error)]
    return [_checked(plugin, method, module) for method in methods]


def _checked(plugin: Plugin, method: object, module: object) -> Plugin:
    """The plugin with one of its methods, or with what is wrong with it."""
    try:
        _demand_method(method)
    except Exception as error:
        name = getattr(method, "name", None)
        if isinstance(name, str) and re.fullmatch(r"\w+", name):
            plugin = replace(plugin, name=name)
        return _failed(plugin, error)
    assert isinstance(method, Method)
    if not isinstance(module, ModuleType):  # an entry point may name an object in one
        module = sys.modules.get(method.__module__)
    return replace(plugin, name=method.name, method=method, module=module)


def _failed(plugin: Plugin, error: BaseException) -> Plugin:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return replace(plugin, error=reason, traceback=traceback.format_exc().rstrip())


def _demand_method(method: object) -> None:
    if not isinstance(method, Method):
        raise TypeError(f"specbench_method() returned {type(method).__name__}, not a Method")
    for attribute in ("name", "summary", "roles"):
        if not getattr(method, attribute, None):
            raise TypeError(f"its method has no {attribute}")
    if not re.fullmatch(r"\w+", method.name):
        raise TypeError(f"its method is called '{method.name}'; a name has letters, digits and underscores")
    if not set(method.roles) <= {"edge", "cloud"}:
        raise TypeError(f"roles are {method.roles}; a role is 'edge' or 'cloud'")
    if not issubclass(method.settings, Part):
        raise TypeError(f"its settings are a {method.settings.__name__}, and no Part")
    for name, option in method.settings.model_fields.items():
        if option.is_required():
            raise TypeError(f"its option {name} has no default")
    if method.api_version != API_VERSION:
        raise TypeError(f"it was written for API version {method.api_version}; this is version {API_VERSION}")


def _import_file(path: Path) -> ModuleType:
    name = f"specbench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
