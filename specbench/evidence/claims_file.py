"""Claims in YAML: those that somebody writes for a bundle, and those that stand in one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specbench.errors import ExitCode, SpecbenchError, nearest
from specbench.evidence.claims import Claim, answered
from specbench.profile.yaml_text import as_page, mapping_of, read_mapping

VERSION = 1
ID = re.compile(r"[a-z0-9][a-z0-9_.-]*")
KEYS = ("id", "sentence", "query")
FOUND = ("value", "interval")


def as_yaml(claims: Sequence[Claim]) -> str:
    """The text of a `claims.yaml`."""
    listed = [
        {
            "id": claim.id, "sentence": claim.sentence, "query": claim.query, "value": claim.value,
            "interval": list(claim.interval) if claim.interval else None,
        }
        for claim in claims
    ]  # fmt: skip
    return as_page({"schema_version": VERSION, "claims": listed})


def asked_claims(path: Path, document: Mapping[str, Any]) -> list[Claim]:
    """The claims of a file that somebody wrote, with what their queries find; figures in it are not read.

    Raises:
        SpecbenchError: the file is malformed, or a query leads nowhere.
    """
    listed = _listed(read_mapping(path, "claims file", ExitCode.USAGE), str(path), ExitCode.USAGE)
    return [answered(_claim(each, str(path), ExitCode.USAGE), document) for each in listed]


def claimed(text: str, place: str) -> list[Claim]:
    """The claims of a bundle, with the figures that stand in it.

    Raises:
        SpecbenchError: they are malformed.
    """
    code = ExitCode.STORE
    found = []
    for each in _listed(mapping_of(text, place, "claims file", code), place, code):
        claim, value, interval = _claim(each, place, code), each.get("value"), each.get("interval")
        is_interval = isinstance(interval, list) and [*map(type, interval)] == [float, float]
        if isinstance(value, (dict, list)) or not (interval is None or is_interval):
            raise SpecbenchError(f"{place}: claim {claim.id} has no single value, or no interval", None, code)
        ends = (interval[0], interval[1]) if interval else None
        found.append(Claim(claim.id, claim.sentence, claim.query, value, ends))
    return found


def _listed(values: Mapping[str, Any], place: str, code: ExitCode) -> list[dict[str, Any]]:
    listed = values.get("claims")
    if values.keys() - {"schema_version", "claims"} or values.get("schema_version", VERSION) != VERSION:
        raise SpecbenchError(
            f"{place} is no claims file of version {VERSION}",
            "it has schema_version: 1 and claims: [...]",
            code,
        )
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise SpecbenchError(f"{place}: claims is not a list of mappings", f"each with {', '.join(KEYS)}", code)
    ids = [each.get("id") for each in listed]
    if double := next((each for each in ids if ids.count(each) > 1), None):
        raise SpecbenchError(f"{place}: claim {double} stands there twice", "give each an id of its own", code)
    return listed


def _claim(values: Mapping[str, Any], place: str, code: ExitCode) -> Claim:
    name = values.get("id")
    who = f"{place}: claim {name}" if isinstance(name, str) else f"{place}: a claim"
    for key in KEYS:
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise SpecbenchError(
                f"{who} has no {key}, or one that is no text", f"each has {', '.join(KEYS)}", code
            )
    for name in map(str, values.keys() - {*KEYS, *FOUND}):
        raise SpecbenchError(f"{who}: there is no key {name}", nearest(name, KEYS), code)
    if not ID.fullmatch(values["id"]):
        raise SpecbenchError(f"{who}: its id is not made of a-z, 0-9, '.', '-' and '_'", None, code)
    return Claim(values["id"], values["sentence"].strip(), values["query"].strip())
