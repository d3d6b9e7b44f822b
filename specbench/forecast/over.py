"""What `--over` asks to vary: keys and their values, by the names that a replay has for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from specbench.errors import SpecbenchError
from specbench.forecast.replay import Length
from specbench.forecast.variants import SETTINGS, STOP
from specbench.forecast.varied import WINDOW
from specbench.profile import Gate, Profile
from specbench.profile.loading import validated
from specbench.profile.yaml_text import parse_value

DRAFT_LENGTH = "draft_length"
DRAFT_LENGTHS = tuple(range(1, 9))
LONGEST = 64
MOST_CONDITIONS = 1_000_000
GATE = "speculative.gate"
MEASURE, THRESHOLD = f"{GATE}.measure", f"{GATE}.threshold"
OF_PROFILE = {
    f"speculative.{DRAFT_LENGTH}": DRAFT_LENGTH,
    f"speculative.{WINDOW}": WINDOW,
    f"speculative.{STOP}": STOP,
    **{f"{part}.{key}": key for key, part in SETTINGS.items()},
}


def parse_over(given: Sequence[str]) -> dict[str, list[object]]:
    """`key=1..8` and `key=0,5,20` as lists of values, by key.

    Raises:
        SpecbenchError: one is not of that form, or all together are too many.
    """
    over: dict[str, list[object]] = {}
    for text in given:
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not key or not values.strip() or key in over:
            raise SpecbenchError(
                f"--over {text} is not of the form key=values, each key once",
                "for example --over link.rtt_ms=0,20,100",
            )
        over[key] = _values(values)
    if math.prod(len(values) for values in over.values()) > MOST_CONDITIONS:
        raise SpecbenchError(f"--over asks for more than {MOST_CONDITIONS} conditions", "use fewer values")
    return over


def windowed_over(over: Mapping[str, list[object]]) -> dict[str, list[object]]:
    """The same grid with a plan's name for `speculative.window`."""
    return {WINDOW if OF_PROFILE.get(key) == WINDOW else key: values for key, values in over.items()}


def lengths_of(over: dict[str, list[object]]) -> list[Length]:
    """Take the draft lengths out of a grid; 1 to 8 when it names none.

    Raises:
        SpecbenchError: one is no draft length.
    """
    lengths: list[Length] = []
    for value in over.pop(DRAFT_LENGTH, DRAFT_LENGTHS):
        whole = type(value) is int and 1 <= value <= LONGEST
        if not whole and value != "auto":
            raise SpecbenchError(f"draft_length: {value!r} is neither auto nor a number from 1 to {LONGEST}")
        lengths.append(value)  # type: ignore[arg-type]
    return lengths


def _values(text: str) -> list[object]:
    if span := re.fullmatch(r"\s*(\d+)\.\.(\d+)\s*", text):
        first, last = map(int, span.groups())
        if not first <= last < first + MOST_CONDITIONS:
            raise SpecbenchError(f"'{text}' is not a range", "for example 1..8")
        return list(range(first, last + 1))
    values = parse_value(f"[{text}]")
    if not isinstance(values, list) or not values:
        raise SpecbenchError(f"'{text}' is not a list of values", "for example 0,20,100")
    return values


def replayed_over(over: Mapping[str, list[object]]) -> dict[str, list[object]]:
    """The same grid as a replay knows it: `decoding.temperature` is `temperature`, a gate its threshold.

    Raises:
        SpecbenchError: a field is the trace's, or is varied by both of its names; or a gate is none.
    """
    found: dict[str, list[object]] = {}
    for key, values in over.items():
        name = OF_PROFILE.get(key, key)
        if key == MEASURE and THRESHOLD in over:
            continue
        if key in (MEASURE, THRESHOLD):
            pairs = [(one, value) for one in over.get(MEASURE, [None]) for value in over.get(THRESHOLD, [None])]
            name, values = _thresholds([{"measure": one, "threshold": value} for one, value in pairs])
        elif key == GATE:
            name, values = _thresholds(values)
        elif name == key and _is_of_the_trace(key):
            raise SpecbenchError(
                f"a replay cannot vary {key}: the trace fixes it",
                "make one trace per value, or measure it: 'specbench sweep METHOD --over KEY=VALUES'",
            )
        if name in found:
            raise SpecbenchError(f"--over varies {name} twice", "leave out one of them")
        found[name] = values
    return found


def _is_of_the_trace(key: str) -> bool:
    """Whether a profile has such a field that neither a cost table nor a method has."""
    part = key.partition(".")[0]
    return part in Profile.model_fields and part not in ("link", "methods")


def _thresholds(gates: Sequence[Any]) -> tuple[str, list[object]]:
    """A replay's key for gates of a profile, and its values; without a gate any measure serves."""
    read = [None if gate is None else validated(Gate, gate, GATE) for gate in gates]
    measures = sorted({gate.measure for gate in read if gate})
    if len(measures) > 1:
        raise SpecbenchError(f"{' and '.join(measures)}: a replay has one gate", "vary its threshold")
    return f"gate.{measures[0] if measures else 'entropy'}", [gate and gate.threshold for gate in read]
