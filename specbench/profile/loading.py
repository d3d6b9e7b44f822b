"""From a profile's name or path to a valid Profile: extends, overrides, validation, hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError

from specbench.errors import ExitCode, ProfileError, SpecbenchError, nearest
from specbench.profile import paths
from specbench.profile.schema import BUILTIN, Profile
from specbench.profile.yaml_text import parse_value, read_mapping

PartT = TypeVar("PartT", bound=BaseModel)

QUOTING = {  # what a value was read as depends on how it is written
    "string_type": "a text that looks like something else needs quotes, such as '0123'",
    "bool_type": "write true or false",
}
OTHERWISE = {
    "concurrency": "an edge answers one request at a time; 'specbench load --edges 4' measures several",
}
"""What does that for which a profile has no key."""


def list_profiles() -> dict[str, Path]:
    """The shipped profiles by name."""
    folder = Path(str(resources.files("specbench.profiles")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_profile(
    name: str, overrides: Sequence[str] = (), settings: Mapping[str, object] | None = None
) -> Profile:
    """A valid profile, with everything it extends merged in and `key=value` overrides applied.

    Args:
        name: a shipped profile's name, or the path of a YAML file.
        overrides: `a.b=value`, the value in YAML, as `--set` takes them.
        settings: further values by dotted key, taken as they are.

    Whoever names a prompt file and no limit, in one profile file or beside it, means all of that file.

    Raises:
        SpecbenchError: with the path, the value, the reason and the nearest valid name.
    """
    return _changed(_merged(name, base=None, chain=()), overrides, settings or {}, f"profile {name}")


def with_changes(
    profile: Profile, overrides: Sequence[str] = (), settings: Mapping[str, object] | None = None
) -> Profile:
    """A loaded profile with further overrides and settings, which are those of `load_profile`.

    Raises:
        SpecbenchError: with the path, the value, the reason and the nearest valid name.
    """
    return _changed(profile.model_dump(mode="json"), overrides, settings or {}, "the profile")


def _changed(values: dict, overrides: Sequence[str], settings: Mapping[str, object], where: str) -> Profile:
    named: dict = {}
    for key, value in [*overriding(overrides), *settings.items()]:
        _apply(values, key, value)
        _apply(named, key, value)
    if _names_prompts_alone(named):
        _apply(values, "workload.limit", None)
    return validated(Profile, values, where)


def validated(part: type[PartT], values: dict, where: str, exit_code: ExitCode = ExitCode.PROFILE) -> PartT:
    """A profile, a part of one, or a cost table, from plain values.

    Raises:
        SpecbenchError: naming `where`, the key, the value and the reason.
    """
    try:
        return part.model_validate(values)
    except ValidationError as error:
        raise _explain(error, part, where, exit_code) from error


def overriding(overrides: Sequence[str], example: str = "cloud.dtype=float16") -> list[tuple[str, object]]:
    """Keys and values of `key=value` overrides, as `--set` takes them.

    Raises:
        SpecbenchError: one is not of that form.
    """
    given: list[tuple[str, object]] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SpecbenchError(
                f"--set {override} is not of the form key=value", f"for example --set {example}"
            )
        given.append((key.strip(), parse_value(text)))
    return given


def settings_hash(*parts: object) -> str:
    """SHA-256 over the parts' canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _locate(name: str, base: Path | None) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name) if base is None or Path(name).is_absolute() else base / name
        if path.is_file():
            return path
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise ProfileError(f"profile {path} {reason}", _valid_hint(name))
    shipped = list_profiles()
    if name in shipped:
        return shipped[name]
    raise ProfileError(f"there is no profile '{name}'", _valid_hint(name))


def _valid_hint(name: str) -> str | None:
    return nearest(Path(name).stem, list_profiles())


def _merged(name: str, base: Path | None, chain: tuple[Path, ...]) -> dict:
    path = _locate(name, base).resolve()
    if path in chain:
        circle = " -> ".join(step.name for step in (*chain[chain.index(path) :], path))
        raise ProfileError(f"profiles extend each other in a circle: {circle}")
    values = read_mapping(path)
    if _names_prompts_alone(values):
        _apply(values, "workload.limit", None)
    if path.parent != Path(str(resources.files("specbench.profiles"))).resolve():
        values = paths.seen_from_here(values, path)  # a shipped profile's folder is nobody's
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ProfileError(f"{path}: extends is {parent!r}; it takes one profile's name or path")
    return _overlay(_merged(parent, path.parent, (*chain, path)), values)


def _names_prompts_alone(values: dict) -> bool:
    """Whether these settings name a file of prompts, and no limit: it is not meant by another's limit."""
    workload = values.get("workload")
    if not isinstance(workload, dict) or "limit" in workload:
        return False
    return workload.get("prompts", BUILTIN) != BUILTIN


def _overlay(below: dict, above: dict) -> dict:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _overlay(merged[key], value)
        else:
            merged[key] = value
    return merged


def _apply(values: dict, key: str, value: object) -> None:
    steps = key.split(".")
    _check_key(steps)
    here = values
    for step in steps[:-1]:
        if not isinstance(here.get(step), dict):
            here[step] = {}
        here = here[step]
    here[steps[-1]] = value


def _check_key(steps: list[str]) -> None:
    """Refuse a key that no profile has, so that the error names the override and not the file."""
    part: type[BaseModel] | None = Profile
    for depth, step in enumerate(steps):
        if part is None:
            return  # below a free mapping, such as cloud.max_memory
        if step not in part.model_fields:
            prefix = "".join(f"{above}." for above in steps[:depth])
            hint = nearest(step, part.model_fields, prefix=prefix)
            raise SpecbenchError(f"the profile has no key '{'.'.join(steps)}'", _elsewhere(steps[-1]) or hint)
        annotation = part.model_fields[step].annotation
        is_part = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        part = cast(type[BaseModel], annotation) if is_part else None


def _elsewhere(name: str) -> str | None:
    """A hint at the keys of a profile that have this name, in whatever part; or at what does the same."""
    if name in OTHERWISE:
        return OTHERWISE[name]
    keys = " or ".join(f"'{key}'" for key in _keys(Profile, "") if key.rpartition(".")[2] == name)
    return f"did you mean {keys}?" if keys else None


def _keys(part: type[BaseModel], prefix: str) -> Iterator[str]:
    """All keys below a part, by their dotted names, those of parts that may be null too."""
    for name, field in part.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{prefix}{name}.")


def _explain(error: ValidationError, part: type[BaseModel], where: str, exit_code: ExitCode) -> SpecbenchError:
    """One sentence for the first problem, with how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    path = ".".join(str(step) for step in first["loc"])
    message, hint = first["msg"].removeprefix("Value error, "), None
    value = first["input"]
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        hint = nearest(name, _siblings(part, first["loc"]))
        message, hint = "there is no such key", (_elsewhere(name) if part is Profile else None) or hint
    elif first["type"] == "missing":
        message = "this key is needed and absent"
    elif first["type"] == "literal_error":
        # pydantic writes the choices as 'a', 'b' or 'c'.
        choices = [part for index, part in enumerate(first["ctx"]["expected"].split("'")) if index % 2]
        hint = nearest(str(value), choices)
        message = f"{value!r} is not one of {', '.join(choices)}"
    elif first["type"] == "string_pattern_mismatch" and path.endswith("device"):
        message = f"{value!r} is not a device; it takes cpu, auto, cuda or cuda:N"
    elif first["type"] == "string_pattern_mismatch" and path.endswith("placement"):
        message = (
            f"{value!r} is not a placement; it takes in_process, process, wss://host:port or https://host:port"
        )
    elif first["type"] == "string_pattern_mismatch":
        message = f"{value!r} is not a size, such as 10GiB"
    elif not isinstance(value, dict):
        message = f"{value!r} is refused: {message[:1].lower()}{message[1:]}"
        hint = QUOTING.get(first["type"])
    if len(problems) > 1:
        others = dict.fromkeys(".".join(map(str, problem["loc"])) for problem in problems[1:])
        message += f" (also refused: {', '.join(others)})"
    return SpecbenchError(f"{where}: {path + ': ' if path else ''}{message}", hint, exit_code)


def _siblings(part: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for step in location[:-1]:
        annotation = part.model_fields[str(step)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        part = annotation
    return list(part.model_fields)
