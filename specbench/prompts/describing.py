"""What is in a prompts file: how many of which category, how long, how varied."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from specbench.benchmark.prompt_files import asked
from specbench.benchmark.workload import read_prompts
from specbench.profile import Profile
from specbench.profile.schema import BUILTIN
from specbench.prompts.lengths import TokenCounter
from specbench.prompts.preparing import provenance_of
from specbench.results.environment import expanded
from specbench.results.records import Prompt

BOUNDS = (32, 128, 512, 2048)
"""Upper bounds of the histogram's bins, in tokens; the last bin is open."""


@dataclass(frozen=True)
class Category:
    """The prompts of one category; lengths are those of the texts of all turns together, in tokens.

    Args:
        histogram: prompts of up to 32, 128, 512, 2,048, and of more tokens.
    """

    name: str
    prompts: int
    turns: int
    checkable: int
    shortest: int
    median: int
    longest: int
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """A whole file.

    Args:
        repeated: prompts whose first turn, its file included, another prompt has too.
        provenance: what was noted when the file was prepared; `None` where nothing is known.
        is_as_prepared: the file is still the one that the provenance is about.
    """

    tokenizer: str
    categories: tuple[Category, ...]
    total: Category
    repeated: int
    provenance: dict[str, Any] | None
    is_as_prepared: bool


def describe_file(source: str, profile: Profile) -> Description:
    """Describe a prompts file, or the built-in prompts, with the tokenizer of a profile's target.

    Raises:
        SpecbenchError: the file cannot be read, or a line is malformed.
    """
    prompts = read_prompts(source)
    counter = TokenCounter.of(profile)
    return describe(prompts, None if source == BUILTIN else expanded(source), counter.count, counter.name)


def describe(
    prompts: Sequence[Prompt], path: Path | None, count: Callable[[str], int], tokenizer: str
) -> Description:
    """Count a file's prompts and their tokens.

    Args:
        path: of the file; `None` for the built-in prompts.
        count: tokens of a text.
    """
    lengths = {each.prompt_id: sum(map(count, each.turns)) for each in prompts}
    names = dict.fromkeys(each.category for each in prompts)
    categories = [
        _category(name, [each for each in prompts if each.category == name], lengths) for name in names
    ]
    firsts = [asked(each)[0] for each in prompts]
    known, is_as_prepared = _provenance(path)
    return Description(
        tokenizer,
        tuple(categories),
        _category("all", prompts, lengths),
        len(firsts) - len(set(firsts)),
        known,
        is_as_prepared,
    )


def _category(name: str, prompts: Sequence[Prompt], lengths: dict[str, int]) -> Category:
    tokens = sorted(lengths[each.prompt_id] for each in prompts)
    bounds = (-1, *BOUNDS, math.inf)
    return Category(
        name,
        len(prompts),
        sum(len(each.turns) for each in prompts),
        sum(bool(each.references) for each in prompts),
        tokens[0],
        tokens[len(tokens) // 2],
        tokens[-1],
        tuple(sum(low < each <= high for each in tokens) for low, high in pairwise(bounds)),
    )


def _provenance(path: Path | None) -> tuple[dict[str, Any] | None, bool]:
    if path is None or not provenance_of(path).is_file():
        return None, False
    try:
        known = json.loads(provenance_of(path).read_bytes())
        return known, known["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    except (ValueError, KeyError, TypeError):
        return None, False
