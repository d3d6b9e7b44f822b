"""Acceptance by position in other tools' files: speculation profiles, and what vLLM counts.

They hold no texts. So a plan or replay over one assumes that each drafted token is accepted with the chance of
its position, whatever became of the round before.

Sources: `specdec_bench/speculation_profile.py` of NVIDIA's Model Optimizer (schema 1.0), whose rates are
conditional and marginal; `vllm bench serve --save-result` and vLLM's `/metrics`, whose rates are marginal: the
share of drafts whose first i tokens were all accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from specbench.atomic import write_json
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile.decoding import LONGEST_DRAFT
from specbench.stats.acceptance import Survival

SCHEMA_VERSION = "1.0"
CONDITIONAL, MARGINAL = "conditional_accept_rates", "marginal_accept_rates"
OF_BENCHMARK = "spec_decode_per_position_acceptance_rates"
DRAFTS, OF_COUNTERS = "vllm:spec_decode_num_drafts_total", "vllm:spec_decode_num_accepted_tokens_per_pos_total"
TOLERANCE = 0.01  # between the two kinds of rates of one file


@dataclass(frozen=True)
class Imported:
    """What a file says of acceptance.

    Args:
        label: what it is, in words.
    """

    survival: Survival
    label: str


def imported(path: Path) -> Imported | None:
    """Acceptance by position from another tool's file; `None` where it is none of those that are known.

    Raises:
        SpecbenchError: it is one of them, and damaged, or says nothing of chains of drafted tokens.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None  # whoever reads on says why
    readers: dict[str, tuple[str, Callable[[str], Sequence[float]]]] = {
        f'"{CONDITIONAL}"': ("a speculation profile", _of_profile),
        f'"{OF_BENCHMARK}"': ("vllm bench serve", _of_benchmark),
        OF_COUNTERS: ("vLLM's counters", _of_counters),
    }
    for mark, (source, read) in readers.items():
        if mark.encode() not in data:
            continue
        try:
            rates = tuple(read(data.decode()))
            if not 1 <= len(rates) <= LONGEST_DRAFT:
                raise ValueError(f"it has {len(rates)} positions, and not 1 to {LONGEST_DRAFT}")
        except (ValueError, KeyError, RecursionError) as error:
            why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else error
            raise SpecbenchError(
                f"acceptance file {path} ({source}) cannot be used: {why}",
                "make or copy it again",
                ExitCode.STORE,
            ) from error
        label = f"acceptance by position of {source} ({path.name}), assumed independent between rounds"
        return Imported(Survival(rates), label)
    return None


def _of_profile(text: str) -> list[float]:
    found = _object(text)
    if found.get("measured") is False:
        raise ValueError("it says that nothing was measured")
    if (way := found.get("verification_method", "longest_prefix")) != "longest_prefix":
        raise ValueError(f"its verification_method {way} does not accept token by token")
    conditional = _rates(found[CONDITIONAL])
    if MARGINAL in found:
        implied = Survival(tuple(conditional)).curve(len(conditional)) if conditional else []
        marginal = _rates(found[MARGINAL])
        apart = [abs(one - other) > TOLERANCE for one, other in zip(implied, marginal, strict=False)]
        if any(apart) or len(implied) != len(marginal):
            raise ValueError(f"its {CONDITIONAL} and {MARGINAL} contradict each other")
    return conditional


def _of_benchmark(text: str) -> list[float]:
    return _conditional(_rates(_object(text)[OF_BENCHMARK]))


def _of_counters(text: str) -> list[float]:
    """Over all engines and models of a server; the counters begin with it."""
    drafts, accepted = 0.0, [0.0] * LONGEST_DRAFT
    for name, labels, value in re.findall(r"^(vllm:\w+)(?:\{(.*)\})?\s+(\S+)", text, re.MULTILINE):
        if name == DRAFTS:
            drafts += float(value)
        elif name == OF_COUNTERS:
            position = re.search(r'position="(\d+)"', labels)
            if position is None or int(position[1]) >= LONGEST_DRAFT:
                raise ValueError(f"{OF_COUNTERS} without a position below {LONGEST_DRAFT}")
            accepted[int(position[1])] += float(value)
    if not drafts:
        raise ValueError(f"{DRAFTS} is 0 or missing: nothing was drafted")
    known = max(place for place, count in enumerate(accepted, start=1) if count or place == 1)
    return _conditional(_rates([count / drafts for count in accepted[:known]]))


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _rates(found: Any) -> list[float]:
    if not isinstance(found, list):
        raise ValueError(f"{found!r} is no list of rates")
    for rate in found:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ValueError(f"{rate!r} is not a number between 0 and 1")
    return [float(rate) for rate in found]


def _conditional(marginal: Sequence[float]) -> list[float]:
    if any(later > sooner for sooner, later in pairwise(marginal)):
        raise ValueError("a later position was accepted more often than one before it")
    return [later / sooner if sooner else 0.0 for sooner, later in pairwise([1.0, *marginal])]


def write_profile(path: Path, survival: Survival, source: str, models: Mapping[str, str]) -> None:
    """Write measured acceptance as a `speculation_profile.json`, for tools that simulate with it.

    Args:
        source: what was measured, in words.
        models: by role, what they are called.

    Raises:
        SpecbenchError: the file cannot be written.
    """
    count = len(survival.conditional)
    marginal = survival.curve(count)
    length = round(1 + sum(marginal), 6)
    document = {
        "schema_version": SCHEMA_VERSION,
        "measured": True,
        "method": "draft_model" if models else None,
        "draft_checkpoint": _checkpoint(models.get("edge")),
        "target_model": _checkpoint(models.get("cloud")),
        "num_speculative_tokens": count,
        "block_size": None,
        "max_supported_k": count,
        "verification_method": "longest_prefix",
        CONDITIONAL: [round(rate, 6) for rate in survival.conditional],
        MARGINAL: [round(rate, 6) for rate in marginal],
        "mean_accept_length": length,
        "mean_accept_length_per_request": None,
        "accept_length_model": "chain_analytic" if models else "measured_per_k",
        "accept_length_by_k": {str(count): length},
        "acceptance_length_histogram": None,
        "per_category": None,
        "measurement_conditions": {"tool": "specbench", "source": source},
        "validation": None,
    }
    write_json(path, document)


def _checkpoint(model: str | None) -> dict[str, str] | None:
    """A model by the last two parts of its path, for profiles are published."""
    return {"id": "/".join(Path(model).parts[-2:])} if model else None
