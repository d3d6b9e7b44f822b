"""Takes out of a run's manifest what says whose it is: paths, names of users and hosts, secrets.

Prompts and answers are what was measured, and stay as they are. A secret in them is refused instead.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import msgspec

from specbench.errors import SpecbenchError
from specbench.results.records import Manifest

MEASURED = ("turns", "references", "tasks", "prefills", "files", "prompt_ids", "methods")
"""Parts of a manifest that stay as they are: what was asked, and of whom."""
ASKED = {"workload": ("system", "prefill", "chat_template_kwargs"), "decoding": ("stop",)}
"""By part of the profile, the keys that stay as they are for the same reason."""
VERSIONS = ("versions", "packages", "plugins", "sources")
"""Parts that hold versions and hashes by name, of which four numbers are no address."""
SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE|AUTH|(?:^|_)KEYS?(?:_|$)", re.IGNORECASE
)
TOKEN = re.compile(
    r"hf_\w{20,}|sk-[\w-]{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{20,}"
)
URL = re.compile(r"\b([a-z][a-z+.-]*://)(?:[^\s/@'\"]*@)?(\[[^\]\s]+\]|[\w.-]+)", re.IGNORECASE)
ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
MAYBE_IPV6 = re.compile(
    r"(?<![\w:.])((?:[0-9a-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{1,4}|(?<=::)))"
    r"(?:%[\w.-]*\w)?(?!\w|:[0-9a-f:])",
    re.IGNORECASE,
)
PATH = re.compile(r"(?<![\w./~])(?:~[\w-]*|\.\.)?(?:/[^\s/'\"`:;,<>|()\[\]{}=]+)+/?")
HOME = re.compile(r"(?:/home|/Users)/[^/]+/?")
GENERIC = (
    "root",
    "user",
    "home",
    "localhost",
    "runner",
    "ubuntu",
    "docker",
    "admin",
    "nobody",
    "build",
    "work",
)
SAID = ("failures", "refusals", "remarks", "energy_absent")
"""Parts that hold what errors say."""
SHORTEST_NAME, SHORTEST_SECRET = 3, 8
GONE, HOST, USER = "(removed)", "host", "user"


@dataclass(frozen=True)
class Known:
    """What must not leave this machine.

    Args:
        secrets: values, by the variable of the environment that holds them.
        names: of users and hosts, with the word that takes their place.
    """

    secrets: Mapping[str, str]
    names: Mapping[str, str]

    @classmethod
    def here(cls) -> Known:
        """Of this process."""
        secrets = {
            name: value
            for name, value in os.environ.items()
            if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET
        }
        host = socket.gethostname()
        hosts = (host, host.partition(".")[0], os.environ.get("HOSTNAME", ""))
        names = {**dict.fromkeys(_users(), USER), **dict.fromkeys(hosts, HOST)}
        kept = {name: word for name, word in names.items() if _is_telling(name)}
        longest_first = dict(sorted(kept.items(), key=lambda pair: -len(pair[0])))
        return cls(secrets, longest_first)

    def and_server(self, placement: str, short: bool = False) -> Known:
        """The same and a server's name, which errors say without its address.

        Args:
            short: also one without a dot, which may be any word.
        """
        found = URL.match(placement)
        if not found or found[2].startswith("[") or ADDRESS.fullmatch(found[2]) or not _is_telling(found[2]):
            return self
        if "." not in found[2] and not short:
            return self
        return replace(self, names={found[2]: HOST, **self.names})

    def cleaned(self, text: str, holds_versions: bool = False) -> str:
        """A text without any of it; a path becomes its last part, `./name`."""
        for secret in self.secrets.values():
            text = text.replace(secret, GONE)
        text = TOKEN.sub(GONE, text)
        if not holds_versions:
            text = URL.sub(rf"\1{HOST}", text)
            text = MAYBE_IPV6.sub(_without_address, text)
            text = ADDRESS.sub(HOST, text)
        key, equals, value = text.rpartition("=")
        if value.startswith(("/", "~/", "../")) and "\n" not in value and not re.search(r"[;,'\"]", value):
            text = f"{key}{equals}{_last(value)}"
        text = PATH.sub(lambda match: _last(match[0]), text)
        for pattern, word in self.patterns.items():
            text = pattern.sub(word, text)
        return text

    @cached_property
    def patterns(self) -> dict[re.Pattern[str], str]:
        """Of the names, as whole words."""
        return {
            re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE): word
            for name, word in self.names.items()
        }

    def held_by(self, text: str) -> str | None:
        """What of it a text holds, in words that do not repeat it; `None` where it holds nothing."""
        for name, value in self.secrets.items():
            if value in text or json.dumps(value)[1:-1] in text:
                return f"the value of the environment variable {name}"
        return "what looks like an access token" if TOKEN.search(text) else None


def without_names(manifest: Manifest, known: Known) -> Manifest:
    """The manifest as anybody may read it: without the working directory, the cluster and what `known` holds.

    Raises:
        SpecbenchError: something of it is in a name that cannot be changed, such as that of a method.
    """
    values = msgspec.to_builtins(manifest)
    placement = values["profile"].get("cloud", {}).get("placement") or ""
    known, known_by_errors = known.and_server(placement), known.and_server(placement, short=True)
    values["profile"].pop("cluster", None)
    values["directory"] = None
    found = {
        key: value
        if key in MEASURED
        else _walked(value, known_by_errors if key in SAID else known, key in VERSIONS)
        for key, value in values.items()
    }
    for part, keys in ASKED.items():
        if part in values["profile"]:
            kept = {key: value for key, value in values["profile"][part].items() if key in keys}
            found["profile"][part] |= kept
    for place in _names(found):
        if any(each.search(place) for each in known.patterns):
            raise SpecbenchError(
                f"no bundle: run {manifest.run_id} holds the name of a user or a host in its manifest, as "
                f"a name that is kept ({place})",
                "rename the method or the package that is called so, and run it again",
            )
    return msgspec.convert(found, Manifest)


def demand_no_secrets(files: Mapping[str, bytes], known: Known) -> None:
    """Refuse files that hold a secret: what was asked and answered stays as it is.

    Raises:
        SpecbenchError: naming the first file and line, and never the secret.
    """
    for name, data in files.items():
        for number, line in enumerate(data.decode().split("\n"), start=1):
            if held := known.held_by(line):
                raise SpecbenchError(
                    f"no bundle: {name}, line {number}, would hold {held}",
                    "prompts and answers are kept as they are; change the prompt, and run it again",
                )


def _users() -> list[str]:
    found = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
    with suppress(OSError, KeyError):  # a container's user may have no name
        found.append(getpass.getuser())
    return [*found, Path(os.path.expanduser("~")).name]


def _is_telling(name: str) -> bool:
    return len(name) >= SHORTEST_NAME and name.lower() not in GENERIC


def _without_address(found: re.Match[str]) -> str:
    """A word in place of an address; a time, or `::` of a program, stays as it is."""
    try:
        return HOST if any(IPv6Address(found[1]).packed) else found[0]
    except ValueError:
        return HOST if MAC.fullmatch(found[1]) else found[0]


def _last(path: str) -> str:
    if HOME.fullmatch(path):
        return f"./{USER}"
    return f"./{path.rstrip('/').rpartition('/')[2].lstrip('~')}"


def _walked(value: Any, known: Known, holds_versions: bool) -> Any:
    if isinstance(value, str):
        return known.cleaned(value, holds_versions)
    if isinstance(value, (list, tuple)):
        return [_walked(each, known, holds_versions) for each in value]
    if isinstance(value, dict):
        return {key: _walked(each, known, holds_versions or key in VERSIONS) for key, each in value.items()}
    return value


def _names(found: Mapping[str, Any]) -> Iterator[str]:
    """What is called somehow: methods, and the keys of mappings."""
    yield from found["methods"]
    for key, value in found.items():
        if key not in MEASURED:
            yield from _keys(value)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from _keys(each)
