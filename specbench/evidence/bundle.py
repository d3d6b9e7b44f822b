"""A bundle: stored runs, what their comparison says, and claims about it, in one file without private names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from specbench import __version__
from specbench.atomic import json_bytes
from specbench.benchmark.prompt_lines import as_line
from specbench.benchmark.stored_prompts import stored_prompts
from specbench.benchmark.workload import parse_prompts
from specbench.errors import StoreError
from specbench.evidence import archive
from specbench.evidence.claims import Claim, default_claims
from specbench.evidence.claims_file import as_yaml, asked_claims, claimed
from specbench.evidence.privacy import Known, demand_no_secrets, without_names
from specbench.results.conditions import code_commit
from specbench.results.records import Prompt, Run
from specbench.results.store import GENERATIONS, MANIFEST, RunStore, decoded
from specbench.stats.comparison import compare
from specbench.stats.document import comparison_document

VERSION = 1
INDEX, CLAIMS, COMPARISON, RUNS, PROMPTS = (
    "bundle.json", "claims.yaml", "comparison.json", "runs", "prompts.jsonl",
)  # fmt: skip
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Maker:
    """Which specbench: its version, and the commit of its code where that is known."""

    version: str
    commit: str | None = None

    @classmethod
    def here(cls) -> Maker:
        """This one."""
        return cls(__version__, code_commit())

    @property
    def in_words(self) -> str:
        """Version and commit."""
        commit, dash, dirty = (self.commit or "").partition("-")
        return f"specbench {self.version}" + (f" (commit {commit[:12]}{dash}{dirty})" if commit else "")


@dataclass(frozen=True)
class Index:
    """What `bundle.json` says: `files` are the SHA-256 of all other files."""

    made_by: Maker
    runs: tuple[str, ...]
    files: dict[str, str]
    allow_unfair: bool = False
    schema_version: int = VERSION


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read.

    Args:
        prompts: by run; a run has none where they were gone when it was bundled.
        document: the comparison as it was when the bundle was made.
        changed: files that are not as they were bundled, a sentence each.
    """

    made_by: Maker
    runs: tuple[Run, ...]
    prompts: dict[str, tuple[Prompt, ...]]
    document: dict[str, Any]
    claims: tuple[Claim, ...]
    allow_unfair: bool
    changed: tuple[str, ...]


def compared(runs: Sequence[Run], allow_unfair: bool) -> dict[str, Any]:
    """The comparison of runs as JSON has it.

    Raises:
        SpecbenchError: they are not comparable.
    """
    text = json.dumps(comparison_document(compare(runs, allow_unfair)), allow_nan=False)
    found: dict[str, Any] = json.loads(text)
    return found


def bundle(
    store: RunStore, run_ids: Sequence[str], claims: Path | None = None, allow_unfair: bool = False
) -> dict[str, bytes]:
    """The files of a bundle, by name.

    Args:
        claims: a file of claims, in place of those that are made from the comparison.

    Raises:
        SpecbenchError: a run is damaged, runs are not comparable, a claim leads nowhere, or a secret is in what
            must stay as it is.
    """
    known = Known.here()
    files: dict[str, bytes] = {}
    runs = []
    for run_id in run_ids:
        stored = store.read(run_id)
        if stored.faults:
            raise StoreError(f"no bundle: {stored.faults[0]}", "restore the file, or run it again")
        run = replace(stored, manifest=without_names(stored.manifest, known))
        folder = f"{RUNS}/{run_id}"
        files[f"{folder}/{MANIFEST}"] = json_bytes(run.manifest)
        files[f"{folder}/{GENERATIONS}"] = store.lines(run_id)
        if prompts := stored_prompts(stored):
            files[f"{folder}/{PROMPTS}"] = "".join(_line(each) for each in prompts).encode()
        runs.append(run)
    document = compared(runs, allow_unfair)
    files[COMPARISON] = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    stated = asked_claims(claims, document) if claims else default_claims(document)
    files[CLAIMS] = as_yaml(stated).encode()
    demand_no_secrets(files, known)
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    files[INDEX] = json_bytes(Index(Maker.here(), tuple(run_ids), hashes, allow_unfair))
    return files


def read(path: Path) -> Bundle:
    """The bundle in a file.

    Raises:
        SpecbenchError: it cannot be read, or is damaged so that nothing can be computed from it.
    """
    files = archive.read(path)
    index = _decoded(files, INDEX, Index, path)
    if index.schema_version != VERSION:
        raise StoreError(
            f"{path} has schema version {index.schema_version}; this specbench reads {VERSION}",
            "use the version of specbench that made it",
        )
    runs, prompts = [], {}
    for run_id in index.runs:
        folder = f"{RUNS}/{run_id}"
        manifest, lines = (_file(files, f"{folder}/{name}", path) for name in (MANIFEST, GENERATIONS))
        try:
            run = decoded(manifest, lines, path / folder)
        except RecursionError as error:
            raise StoreError(f"{path} is damaged: {folder} is nested too deeply") from error
        if run.manifest.run_id != run_id:
            raise StoreError(f"{path} is damaged: {folder} holds run {run.manifest.run_id}")
        runs.append(run)
        if data := files.get(f"{folder}/{PROMPTS}"):
            prompts[run_id] = tuple(parse_prompts(data, f"{path}/{folder}/{PROMPTS}"))
    if not runs:
        raise StoreError(f"{path} is damaged: it holds no run")
    try:
        stated = claimed(_file(files, CLAIMS, path).decode(), f"{path}/{CLAIMS}")
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is damaged: {CLAIMS} is not UTF-8") from error
    document = _decoded(files, COMPARISON, dict, path)
    return Bundle(
        index.made_by,
        tuple(runs),
        prompts,
        document,
        tuple(stated),
        index.allow_unfair,
        tuple(_changed(files, index.files)),
    )


def _changed(files: Mapping[str, bytes], hashes: Mapping[str, str]) -> list[str]:
    told = [f"{name} is missing" for name in hashes if name not in files]
    told += [f"{name} is not in {INDEX}" for name in files if name not in hashes and name != INDEX]
    told += [
        f"{name} is not as it was bundled: its SHA-256 differs from that in {INDEX}"
        for name, data in files.items()
        if name in hashes and hashlib.sha256(data).hexdigest() != hashes[name]
    ]
    return sorted(told)


def _line(prompt: Prompt) -> str:
    """A line of a bundle's prompts file; the images and sounds of a prompt are no part of the bundle."""
    files = tuple(replace(file, path=file.path and Path(file.path).name) for file in prompt.files)
    return json.dumps(as_line(replace(prompt, files=files)), ensure_ascii=False) + "\n"


def _file(files: Mapping[str, bytes], name: str, path: Path) -> bytes:
    if name not in files:
        raise StoreError(f"{path} is damaged: it holds no {name}", "copy or make it again")
    return files[name]


def _decoded(files: Mapping[str, bytes], name: str, kind: type[Kind], path: Path) -> Kind:
    try:
        return msgspec.json.decode(_file(files, name, path), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged: {name}: {error}", "copy or make it again") from error
