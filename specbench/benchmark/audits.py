"""The precision audit of a run: before anything is loaded, before anything is timed, and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from specbench import precision
from specbench.api import CloudLostError, Method, Options
from specbench.errors import ExitCode, SpecbenchError, first_line
from specbench.profile import Profile
from specbench.registry import blaming
from specbench.results.records import Audit, Manifest, SwitchChange


def demand_declared(profile: Profile, methods: Sequence[Method]) -> None:
    """Refuse declared precisions that break the profile's rule, the methods' own options included.

    Raises:
        SpecbenchError: naming both precisions.
    """
    options = Options.of(profile)
    found = precision.parity_findings(profile)
    for method in methods:
        with blaming(method):
            changes = dict(method.precision_changes(options))
        found += precision.method_findings(profile, method.name, changes, method.roles)
    if not found:
        return
    hint = "set both alike, or say that they differ on purpose: --set precision.parity=per_role"
    if found[0].method:
        hint = f"leave {found[0].method} out, or run it labelled: --set precision.parity=off"
    raise SpecbenchError(found[0].message, hint, ExitCode.CHECK_FAILED)


class PrecisionWatch:
    """Holds the precision of a run against the profile, at its start, after every round, and at its end."""

    def __init__(self, profile: Profile, audit_models: Callable[[], list[Audit]]) -> None:
        self._precision = profile.precision
        self._audit_models = audit_models
        self._changes: dict[str, SwitchChange] = {}

    def begin(self, manifest: Manifest) -> Manifest:
        """The manifest with tensors and switches as they are now, before anything is timed.

        Raises:
            SpecbenchError: one is not what the profile demands.
        """
        self._start, self._glance = precision.switches.read(), precision.switches.glance()
        try:
            audits = self._audit_models()
        except RuntimeError as error:  # tensors of several dtypes meet in one operation
            reason = first_line(error)
            raise SpecbenchError(
                f"the models cannot run a forward pass for the precision audit: {reason}",
                "remove the method that changed the models",
                ExitCode.CHECK_FAILED,
            ) from error
        found = precision.audit_findings(audits, self._precision.parity)
        found += precision.switches.findings(self._start, self._precision.allow_tf32)
        wrong = [finding for finding in found if finding.verdict == precision.DIFFERS]
        if wrong and self._precision.parity != "off":
            mend = " ".join(f"--set {setting}" for setting in wrong[0].settings) or (
                f"env -u {wrong[0].unset}" if wrong[0].unset else "leave out the method that changes it"
            )
            raise SpecbenchError(
                f"precision is not what the profile declares: {wrong[0].message}",
                f"{mend}; or run it labelled: --set precision.parity=off (see 'specbench check-dtype --load')",
                ExitCode.CHECK_FAILED,
            )
        earlier = manifest.switches.get("start", self._start)  # of the sitting that is resumed
        for name in precision.switches.changes(earlier, self._start):
            self._note(SwitchChange(name, earlier.get(name), self._start.get(name)))
        problems = dict.fromkeys([*manifest.precision_problems, *(finding.message for finding in wrong)])
        return replace(
            manifest,
            audits=tuple(audits),
            switches={**manifest.switches, "start": self._start},
            precision_problems=tuple(problems),
        )

    def look(self, method: str, prompt_id: str) -> None:
        """Note what has changed since the start; off the clock."""
        if precision.switches.glance() == self._glance:
            return
        now = precision.switches.read()
        for name in precision.switches.changes(self._start, now):
            self._note(SwitchChange(name, self._start.get(name), now.get(name), method, prompt_id))

    def end(self, manifest: Manifest, completed: bool) -> Manifest:
        """The manifest with what is found at the end, and with every change as a problem.

        Args:
            completed: whether there is time to look at the models again, or the run is being torn down.
        """
        now = precision.switches.read()
        for name in precision.switches.changes(self._start, now):
            self._note(SwitchChange(name, self._start.get(name), now.get(name)))
        changes = dict.fromkeys([*manifest.switch_changes, *self._changes.values()])
        audits, broken = [], []
        try:
            audits = self._audit_models() if completed else []
        except CloudLostError:
            pass  # what it was at the end is not known, and is not stored
        except Exception as error:  # transformers and models raise whatever they like
            reason = first_line(error) if isinstance(error, RuntimeError) else repr(error)
            broken = [f"the models no longer run a forward pass: {reason}"]
        manifest = replace(
            manifest,
            switches={**manifest.switches, "end": now},
            switch_changes=tuple(changes),
            audits_at_end=tuple(audits),
        )
        messages = [*(finding.message for finding in precision.change_findings(manifest)), *broken]
        return replace(
            manifest, precision_problems=tuple(dict.fromkeys([*manifest.precision_problems, *messages]))
        )

    def _note(self, change: SwitchChange) -> None:
        self._changes.setdefault(change.switch, change)
