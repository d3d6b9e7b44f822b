"""All that a report shows, as plain data; nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench import precision
from specbench.results.derived import Comparison
from specbench.results.records import Manifest, Run
from specbench.stats import fairness, texts, timings
from specbench.stats.comparison import compare
from specbench.stats.groups import groups_of


@dataclass(frozen=True)
class Report:
    """A comparison, and what stands behind it.

    Args:
        findings: what the precision audits of the runs, and between them, found wrong or could not know.
        remarks: what is fair about precision and must be said all the same.
        memory: by run, of each answer in the order in which they were given.
    """

    comparison: Comparison
    runs: tuple[Run, ...]
    held: tuple[fairness.Held, ...]
    findings: tuple[precision.Finding, ...]
    remarks: tuple[str, ...]
    samples: tuple[timings.Samples, ...]
    round_times: tuple[timings.RoundTime, ...]
    memory: dict[str, tuple[timings.MemoryPoint, ...]]
    texts: tuple[texts.TextPair, ...]

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Of the runs."""
        return tuple(run.manifest for run in self.runs)


def report(runs: Sequence[Run], allow_unfair: bool = False) -> Report:
    """Put together what stored runs say.

    Raises:
        SpecbenchError: they are not comparable, or hold no generations.
    """
    comparison = compare(runs, allow_unfair)
    groups = groups_of(runs)
    manifests = [run.manifest for run in runs]
    findings = [finding for manifest in manifests for finding in precision.run_findings(manifest)]
    findings += [found for other in manifests[1:] for found in precision.between_findings(manifests[0], other)]
    remarks = [line for manifest in manifests for line in _remarks(manifest)]
    memory = {}
    for run in runs:
        names = {group.method: group.name for group in groups if group.run is run}
        if points := timings.memory_points(run, names):
            memory[run.manifest.run_id] = tuple(points)
    spent = [timings.round_time(group.name, group.records) for group in groups]
    return Report(
        comparison=comparison,
        runs=tuple(runs),
        held=tuple(fairness.fairness(runs, findings)),
        findings=tuple(dict.fromkeys(findings)),
        remarks=tuple(dict.fromkeys(remarks)),
        samples=tuple(timings.samples(group.name, group.records) for group in groups),
        round_times=tuple(part for part in spent if part),
        memory=memory,
        texts=tuple(texts.text_pairs(groups)),
    )


def _remarks(manifest: Manifest) -> list[str]:
    declared = manifest.profile["precision"]
    return precision.remarks(manifest.audits, declared["parity"], declared.get("allow_tf32", False))
