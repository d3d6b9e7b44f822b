"""Where the repository lies, for tests that read its pages and its code."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
