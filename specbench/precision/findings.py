"""Findings: what is wrong or unknown, and what fixes it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

OK, DIFFERS, UNKNOWN = "ok", "differs", "unknown"
UNDEMANDED = ("precision.parity=off",)  # runs what nothing else mends, and every table says so


@dataclass(frozen=True)
class Finding:
    """One thing that keeps a verdict from being `ok`.

    Args:
        verdict: `differs` or `unknown`.
        subject: the first offending tensor, dtype or switch.
        message: the whole sentence.
        settings: `key=value` pairs that mend it when given to `--set`.
        method: the method whose absence mends it.
        unset: the environment variable whose absence mends it.
        command: what mends it before specbench is run again.
    """

    verdict: str
    subject: str
    message: str
    settings: tuple[str, ...] = ()
    method: str | None = None
    unset: str | None = None
    command: str | None = None

    def mend(self, command: Sequence[str], others: Sequence[str] = ()) -> str:
        """The command line that repeats `command` without this finding.

        Args:
            command: words behind `specbench`.
            others: methods to run when the one at fault is left out and none remains.
        """
        if self.command:
            return self.command
        words = list(command)
        if self.method and not self.settings:
            kept = [word for word in words if word.replace("-", "_") != self.method]
            named = any(word.replace("-", "_") in others for word in kept)
            words = kept if named or not others else [*kept[:1], others[0], *kept[1:]]
        words = _without(words, {setting.partition("=")[0] for setting in self.settings})
        words += [word for setting in self.settings for word in ("--set", setting)]
        return shlex.join([*(("env", "-u", self.unset) if self.unset else ()), "specbench", *words])


def _without(words: Sequence[str], keys: Collection[str]) -> list[str]:
    """The words of a command without what it sets these keys to."""
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] == "--set" and word.partition("=")[0] in keys:
            kept.pop()
        else:
            kept.append(word)
    return kept


def verdict(findings: Iterable[Finding]) -> str:
    """`differs` if any finding does, else `unknown` if any is, else `ok`."""
    known = {finding.verdict for finding in findings}
    return DIFFERS if DIFFERS in known else UNKNOWN if UNKNOWN in known else OK
