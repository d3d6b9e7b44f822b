"""Images and sounds of a prompt: the tokens that stand for them, and what the model reads in their place.

The processor beside a model makes both. In the prompt's tokens a placeholder stands once for each vector that
the model puts there. These vectors are made in the pass that reads the prompt; what follows is text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from specbench.errors import ModelError, SpecbenchError, first_line
from specbench.models import files as model_files
from specbench.models import storage
from specbench.models.architecture import text_model
from specbench.models.library import quiet_transformers
from specbench.models.media_files import pictures, sound
from specbench.results.records.generations import MediaKind

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from specbench.models.loading import LoadedModel

KINDS: tuple[MediaKind, ...] = get_args(MediaKind)
MOST_FILES = 16
"""Of a prompt."""
MOST_BYTES = 15_000_000
"""Of all files of a prompt together: they cross the link in one frame."""
TEXT_INPUTS = ("input_ids", "attention_mask")
TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""Inputs with a number for each token: 0 for text, and for a placeholder one of `TYPE_OF`."""
TYPE_OF = {"image": 1, "audio": 3}

File = tuple[MediaKind, bytes]
"""Its kind, and what is in the file."""


@dataclass(frozen=True)
class Media:
    """The files that a prompt shows.

    Args:
        files: in the order of their placeholders.
        placeholder_ids: the tokens that stand for them.
        drafted: whether the edge's model reads them too.
    """

    files: tuple[File, ...]
    placeholder_ids: frozenset[int]
    drafted: bool = False

    @classmethod
    def of(cls, reader: MediaReader, files: Sequence[File], drafted: bool = False) -> Media:
        """Files as the model beside a processor reads them.

        Raises:
            SpecbenchError: it reads no such files, or they are too large.
        """
        demand_few(files)
        return cls(tuple(files), frozenset(reader.placeholder_id(kind) for kind, _ in files), drafted)

    def end_in(self, token_ids: Sequence[int]) -> int:
        """Where text alone goes on in a prompt: behind its last placeholder."""
        places = (place for place, token in enumerate(token_ids, start=1) if token in self.placeholder_ids)
        return max(places, default=0)

    @property
    def sha256(self) -> tuple[str, ...]:
        """A hash for each file."""
        return tuple(hashlib.sha256(data).hexdigest() for _, data in self.files)


class MediaReader:
    """The processor beside a model.

    Args:
        folder: of the model.
        trust_remote_code: as of `ModelSpec`; never asked for on the terminal.

    Raises:
        SpecbenchError: there is none, it cannot be read, or it lacks a package.
    """

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        from transformers import AutoConfig, AutoProcessor

        self._folder = folder
        try:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
                self._config = text_model(config)
                self._processor: Any = AutoProcessor.from_pretrained(
                    folder, trust_remote_code=trust_remote_code
                )
        except Exception as error:  # processors raise whatever they like
            raise ModelError(
                f"the processor of {folder} cannot be read: {first_line(error)}",
                (None if find_spec("PIL") else "pip install 'specbench[images]'")
                or storage.missing_package(error)
                or (model_files.TRUST if "trust_remote_code" in str(error) else None)
                or "choose a model that reads images or audio",
            ) from error

    def tokens(self, text: str, files: Sequence[File]) -> list[int]:
        """Token ids of a text, each placeholder in it repeated as often as its file takes.

        Raises:
            SpecbenchError: a file is damaged, or the text does not have a placeholder for each one.
        """
        ids: list[int] = self._processed(text, files)["input_ids"][0].tolist()
        for kind in dict(files):
            if self.placeholder_id(kind) not in ids:  # a processor may not count them
                raise ModelError(
                    f"the chat template of {self._folder} leaves out the {kind}",
                    f"choose a model that reads {kind} files, or a template that does (workload.chat_template)",
                )
        return ids

    def tokens_of(self, files: Sequence[File]) -> list[int]:
        """Token ids of files alone.

        Raises:
            SpecbenchError: as of `tokens`.
        """
        return self.tokens(self._text_of(files), files)

    def _text_of(self, files: Sequence[File]) -> str:
        return "".join(self.placeholder(kind) for kind, _ in files)

    def inputs(self, media: Media, token_ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """What the model's forward takes beside these tokens, the placeholders of all files among them.

        Raises:
            SpecbenchError: as of `tokens`, or the tokens have other placeholders than the files take.
        """
        import torch

        found = self._processed(self._text_of(media.files), media.files)
        for kind in dict(media.files):
            token = self.placeholder_id(kind)
            taken, there = int((found["input_ids"] == token).sum()), list(token_ids).count(token)
            if taken != there:
                raise ModelError(
                    f"the prompt has {there} tokens for {kind}, and its files take {taken}",
                    "edge and cloud may have other versions of the processor: compare their files",
                )
        for name in TOKEN_TYPES:
            if name in found:  # of that text
                types = torch.zeros(1, len(token_ids), dtype=torch.long)
                for kind in dict(media.files):
                    types[0, torch.tensor(token_ids) == self.placeholder_id(kind)] = TYPE_OF[kind]
                found[name] = types
        return {name: value for name, value in found.items() if name not in TEXT_INPUTS}

    def placeholder_id(self, kind: str) -> int:
        """The token that stands for a part of such a file.

        Raises:
            SpecbenchError: the model reads no such files, or counts their tokens as no engine here does.
        """
        names = (f"{kind}_token_id", f"{kind}_token_index")
        known = next((each for name in names if (each := getattr(self._config, name, None)) is not None), None)
        if known is None:
            raise self._reads_none(kind)
        if kind == "image" and places_by_image(self._config):
            raise ModelError(
                f"{self._folder} ({self._config.model_type}) counts the tokens of an image by rows and columns "
                "(M-RoPE), which specbench does not",
                "choose a model with plain positions, such as LLaVA, Gemma 3 or SmolVLM",
            )
        return int(known)

    def placeholder(self, kind: str) -> str:
        """What stands for such a file in a text.

        Raises:
            SpecbenchError: the model reads no such files.
        """
        token = getattr(self._processor, f"{kind}_token", None)
        if not isinstance(token, str):
            raise self._reads_none(kind)
        return token

    def _reads_none(self, kind: str) -> ModelError:
        return ModelError(
            f"{self._folder} ({self._config.model_type}) reads no {kind}",
            f"choose a model that does, or leave out the prompts with {kind}",
        )

    def _processed(self, text: str, files: Sequence[File]) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for kind in dict(files):
            self.placeholder(kind)
        if images := [data for kind, data in files if kind == "image"]:
            arguments["images"] = pictures(images)
        if sounds := [data for kind, data in files if kind == "audio"]:
            rate = self._processor.feature_extractor.sampling_rate
            arguments |= {"audio": [sound(data, rate) for data in sounds], "sampling_rate": rate}
        try:
            with quiet_transformers():
                return dict(
                    self._processor(text=[text], add_special_tokens=False, return_tensors="pt", **arguments)
                )
        except Exception as error:
            raise ModelError(
                f"the processor of {self._folder} cannot read the prompt: {first_line(error)}",
                storage.missing_package(error) or "look at its files, and at placeholders in its text",
            ) from error


@lru_cache(maxsize=4)
def reader_of(folder: Path, trust_remote_code: bool = False) -> MediaReader:
    """The processor in a folder, read once.

    Raises:
        SpecbenchError: as of `MediaReader`.
    """
    return MediaReader(folder, trust_remote_code)


def demand_few(files: Sequence[File]) -> None:
    """Refuse more of a prompt's files than are read.

    Raises:
        SpecbenchError: they are too many, or too large together.
    """
    size = sum(len(data) for _, data in files)
    if len(files) > MOST_FILES or size > MOST_BYTES:
        raise SpecbenchError(
            f"the prompt shows {len(files)} files of {size / 1e6:.1f} MB together; at most {MOST_FILES} of "
            f"{MOST_BYTES // 1_000_000} MB are read",
            "leave some out, or make them smaller",
        )


def inputs_of(loaded: LoadedModel, media: Media, token_ids: Sequence[int]) -> dict[str, torch.Tensor]:
    """What a loaded model takes beside the tokens of a prompt, where it computes and in its dtype.

    Raises:
        SpecbenchError: as of `MediaReader`.
    """
    found = reader_of(loaded.folder, loaded.trust_remote_code).inputs(media, token_ids)
    return {
        name: tensor.to(loaded.device, loaded.dtype if tensor.is_floating_point() else None)
        for name, tensor in found.items()
    }


def places_by_image(config: PretrainedConfig) -> bool:
    """Whether an image's tokens are counted by rows and columns (M-RoPE), and not one behind the other."""
    text = config.get_text_config()
    settings = (getattr(text, name, None) for name in ("rope_parameters", "rope_scaling"))
    return any("mrope_section" in each for each in settings if isinstance(each, dict))
