"""Tables of methods, and of the options that one has."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from specbench.method import Method
from specbench.registry import Registry
from specbench.render.fitting import folding


def methods_table(registry: Registry) -> Table:
    """Every method and where it is from; one that is broken with its error."""
    table = folding("method", "models", "summary", "source", "version")
    for name, found in registry.plugins.items():
        method = found.method
        summary = Text(method.summary) if method else Text(f"broken: {found.error}", style="red")
        roles = ", ".join(method.roles) if method else "-"
        table.add_row(Text(name), roles, summary, Text(found.source), found.version)
    return table


def method_parts(method: Method, source: str) -> Iterator[RenderableType]:
    """What a method is, where it is from, and its options."""
    yield Text(f"{method.name}: {method.summary}")
    yield Text(f"models: {', '.join(method.roles)}; from {source}")
    if not method.settings.model_fields:
        yield Text("This method has no options of its own.")
        return
    table = folding("option", "type", "default", "meaning")
    for row in _options(method):
        table.add_row(*map(Text, row))
    yield table


def _options(method: Method) -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning of each option of a method's own."""
    schema = method.settings.model_json_schema()
    defaults = method.settings().model_dump(mode="json")
    return [
        (
            f"methods.{method.name}.{name}",
            _kind(known),
            json.dumps(defaults[name]),
            known.get("description", ""),
        )
        for name, known in schema["properties"].items()
    ]


LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "pattern": "that matches {}",
}


def _kind(known: dict) -> str:
    """A type of JSON schema in words."""
    if "anyOf" in known:
        return " or ".join(map(_kind, known["anyOf"]))
    if "enum" in known:
        return ", ".join(map(str, known["enum"]))
    limits = [words.format(known[key]) for key, words in LIMITS.items() if key in known]
    return " ".join([str(known.get("type", "any value")), *limits])
