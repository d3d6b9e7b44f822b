"""JSON schemas that answers are checked for, by jsonschema (`[grammar]`), which decides alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

REFERENCES = ("$ref", "$dynamicRef")
PROBES: tuple[object, ...] = (None, True, 0, "", [], {}, [0], {"": 0})
"""Values of every type: a schema that can check none of them is refused before anything is asked."""


@cache
def validator(schema: str) -> Draft202012Validator:
    """What checks values by a schema; it fetches nothing.

    Raises:
        SpecbenchError: jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
        from referencing import Registry
    except ImportError as error:
        raise SpecbenchError(
            "score schema needs jsonschema, which is not installed", "pip install 'specbench[grammar]'"
        ) from error
    return Draft202012Validator(json.loads(schema), registry=Registry())


def schema_fault(schema: str) -> str | None:
    """Why nothing can be checked by a schema; `None` where it can."""
    from jsonschema import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    checks = validator(schema)
    try:
        checks.check_schema(checks.schema)
        root = Registry().resolver_with_root(DRAFT202012.create_resource(checks.schema))
        for reference in _references(checks.schema):
            root.lookup(reference)
        for value in PROBES:
            checks.is_valid(value)
    except SchemaError as error:
        return f"it is no JSON schema: {error.message}"
    except Unresolvable as error:
        return f"the JSON schema refers to {error.ref}, which is not in it"
    except RecursionError:
        return "the JSON schema refers to itself without end"
    return None


def _references(schema: object) -> Iterator[str]:
    """What a schema refers to, wherever that stands."""
    for part in schema if isinstance(schema, list) else ():
        yield from _references(part)
    for key, part in schema.items() if isinstance(schema, dict) else ():
        if key in REFERENCES and isinstance(part, str):
            yield part
        yield from _references(part)
