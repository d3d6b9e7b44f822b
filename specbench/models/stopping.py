"""Which tokens end a text, as `model.generate` would know it: read from a model's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specbench.errors import ModelError
from specbench.models import files, gguf_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SETTINGS = "generation_config.json"
# Where configurations of several parts keep the part that writes text.
TEXT_PARTS = ("thinker_config", "text_config", "decoder", "generator")


def stop_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Token ids that end a text: those of the model's files, and the tokenizer's end of sequence.

    As for transformers' `generate`, `config.json` counts only where there is no `generation_config.json`.

    Raises:
        SpecbenchError: the settings cannot be read, or name ids that are no numbers.
    """
    path = folder / SETTINGS
    if gguf_files.is_gguf(folder):
        found = gguf_files.header(folder).stop_ids
    else:
        found = end_ids(path) if path.is_file() else end_ids(folder / "config.json")
    own = tokenizer.eos_token_id
    return found if own is None else found | {own}


def end_ids(path: Path) -> frozenset[int]:
    """The `eos_token_id` of a JSON file, one or several; negative ids stand for none.

    Raises:
        SpecbenchError: the file cannot be read, or the ids are no numbers.
    """
    settings = files.read_json(path)
    while settings.get("eos_token_id") is None:
        parts = (settings.get(name) for name in TEXT_PARTS)
        settings = next((part for part in parts if isinstance(part, dict)), {"eos_token_id": []})
    ids = settings["eos_token_id"]
    listed = ids if isinstance(ids, list) else [ids]
    if not all(type(token) is int for token in listed):
        raise ModelError(
            f"{path} has the eos_token_id {ids!r}, and token ids are whole numbers",
            "write the ids as numbers, such as 2 or [2, 7]",
        )
    return frozenset(token for token in listed if token >= 0)
