"""Which models are drafts that read hidden states of their target, told without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MODEL_TYPE = "specbench_eagle"


def is_feature_fed(config: PretrainedConfig) -> bool:
    """Whether a configuration is that of such a draft."""
    return config.model_type == MODEL_TYPE


def lies_in(folder: Path) -> bool:
    """Whether a model's folder holds such a draft."""
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever reads it next says what is wrong
        return False
    return isinstance(described, dict) and described.get("model_type") == MODEL_TYPE
