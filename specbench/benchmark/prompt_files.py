"""Images and sounds of prompts: where a prompts file names them, and how a conversation shows them."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench.errors import SpecbenchError, naming
from specbench.models.media import KINDS, MOST_BYTES, File, Media, MediaReader, demand_few
from specbench.results.environment import expanded, is_encodable
from specbench.results.records import Prompt, PromptFile

if TYPE_CHECKING:
    from specbench.api import CloudModel, EdgeModel

HINT = 'such as {"image": "photo.png", "text": "..."} or {"audio": "question.wav"}'


def read_turns(
    given: Sequence[object], place: str, hint: str, folder: Path | None
) -> tuple[tuple[str, ...], tuple[PromptFile, ...]]:
    """The texts of a line's turns, and the files that they show.

    Args:
        folder: where relative paths begin; without it, as in a bundle, a file is known by its `sha256` alone.

    Raises:
        SpecbenchError: a turn is neither, or a file cannot be read or is another one; it begins with `place`.
    """
    texts: list[str] = []
    files: list[PromptFile] = []
    for turn, value in enumerate(given):
        if isinstance(value, dict):
            text, file = _with_file(value, turn, place, folder)
            texts.append(text)
            files.append(file)
        elif isinstance(value, str) and value.strip():
            texts.append(value)
        else:
            raise SpecbenchError(f"{place}: a turn is empty or not text", hint)
    return tuple(texts), tuple(files)


def _with_file(value: dict[str, Any], turn: int, place: str, folder: Path | None) -> tuple[str, PromptFile]:
    kinds, text = [kind for kind in KINDS if kind in value], value.get("text", "")
    if len(kinds) != 1 or not value.keys() <= {*KINDS, "text", "sha256"} or not isinstance(text, str):
        raise SpecbenchError(f"{place}: turn {turn + 1} is no text and no image or audio with a text", HINT)
    (kind,) = kinds
    path, known = value[kind], value.get("sha256")
    is_path = isinstance(path, str) and path and "\0" not in path and is_encodable(path)
    if not is_path or not isinstance(known, (str, type(None))):
        raise SpecbenchError(f"{place}: turn {turn + 1}: {kind} is no path", HINT)
    if folder is None:
        return text, PromptFile(turn, kind, known or "", path)
    with naming(place):
        file = PromptFile(turn, kind, known or "", str(folder / expanded(path)))
        found = hashlib.sha256(_bytes(file)).hexdigest()
    if known is not None and known != found:
        raise SpecbenchError(
            f"{place}: {kind} {file.path} is not the file that was asked: its SHA-256 is {found[:12]}..., and "
            f"the line says {known[:12]}...",
            "restore the file, or leave out sha256",
        )
    return text, PromptFile(turn, kind, found, file.path)


def _bytes(file: PromptFile) -> bytes:
    path = Path(str(file.path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # its bytes may never come, or never end
            raise SpecbenchError(f"{file.kind} {path} is no regular file", HINT)
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise SpecbenchError(
            f"{file.kind} {path} cannot be read: {error.strerror}",
            "a relative path begins where the prompts file lies",
        ) from error
    if len(data) > MOST_BYTES:
        raise SpecbenchError(
            f"{file.kind} {path} has more than the {MOST_BYTES // 1_000_000} MB that are read",
            "make it smaller",
        )
    return data


@dataclass(frozen=True)
class Shown:
    """What a conversation shows, and the processor that makes tokens of it.

    Args:
        files: by turn.
    """

    reader: MediaReader
    files: Mapping[int, File]

    @classmethod
    def of(cls, prompt: Prompt, model: EdgeModel | CloudModel) -> Shown | None:
        """The files of a prompt, for a model; `None` where it has none.

        Raises:
            SpecbenchError: one cannot be read, or has changed; they are too large; or the model reads none.
        """
        if not prompt.files:
            return None
        files: dict[int, File] = {}
        for file in prompt.files:
            data = _bytes(file)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise SpecbenchError(
                    f"{file.kind} {file.path} has changed since it was first read", "run it again"
                )
            files[file.turn] = file.kind, data
        demand_few(list(files.values()))
        return cls(model.media_reader, files)

    def content(self, turn: int, text: str) -> list[dict[str, str]]:
        """A turn as chat templates of such models take it."""
        shown: list[dict[str, str]] = [{"type": self.files[turn][0]}] if turn in self.files else []
        return [*shown, *([{"type": "text", "text": text}] if text else [])]

    def tokens(self, text: str, turns: int) -> list[int]:
        """The token ids of a conversation of so many turns, in the template's text."""
        return self.reader.tokens(text, self.up_to(turns))

    def up_to(self, turns: int) -> list[File]:
        """The files of the first turns."""
        return [self.files[turn] for turn in sorted(self.files) if turn < turns]


def media_of(shown: Shown | None, turns: int, drafted: bool) -> Media | None:
    """What a request shows in its first turns, if anything."""
    files = shown.up_to(turns) if shown else []
    return Media.of(shown.reader, files, drafted) if shown and files else None


def asked(prompt: Prompt) -> list[tuple[str, str]]:
    """Each turn's text, however it is spaced, and the hash of the file that it shows."""
    shown = {file.turn: file.sha256 for file in prompt.files}
    return [(" ".join(text.split()), shown.get(turn, "")) for turn, text in enumerate(prompt.turns)]
