"""Rows as a pandas DataFrame, where pandas is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(rows: Sequence[Mapping[str, object]]) -> DataFrame:
    """A DataFrame of rows with the same keys.

    Raises:
        SpecbenchError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise SpecbenchError("to_frame() needs pandas", "pip install 'specbench[notebook]'") from error
    return DataFrame(rows)
