"""A grid over a profile's fields, by the names that a replay has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbench.analysis.grid import DRAFT_LENGTH
from specbench.analysis.variants import SETTINGS
from specbench.config import Gate, Profile
from specbench.config.loading import validated
from specbench.errors import SpecbenchError

GATE = "speculative.gate"
MEASURE, THRESHOLD = f"{GATE}.measure", f"{GATE}.threshold"
OF_PROFILE = {
    f"speculative.{DRAFT_LENGTH}": DRAFT_LENGTH,
    **{f"{part}.{key}": key for key, part in SETTINGS.items()},
}


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
                f"a replay cannot vary {key}: it is as the trace was made",
                "make a trace of each, or measure it: 'specbench sweep METHOD --over KEY=VALUES'",
            )
        if name in found:
            raise SpecbenchError(f"--over varies {name} twice", "leave out one of them")
        found[name] = values
    return found


def _is_of_the_trace(key: str) -> bool:
    """Whether a profile has such a field and a cost table none; both have a link."""
    part = key.partition(".")[0]
    return part in Profile.model_fields and part != "link"


def _thresholds(gates: Sequence[object]) -> tuple[str, list[object]]:
    """A replay's key for gates of a profile, and its values; without a gate any measure serves."""
    read = [None if gate is None else validated(Gate, gate, GATE) for gate in gates]
    measures = sorted({gate.measure for gate in read if gate})
    if len(measures) > 1:
        raise SpecbenchError(f"{' and '.join(measures)}: a replay has one gate", "vary its threshold")
    return f"gate.{measures[0] if measures else 'entropy'}", [gate and gate.threshold for gate in read]
