"""What a plan is made from: the acceptance of drafts, as a trace, a run or somebody's numbers say it."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

from specbench.errors import ExitCode, SpecbenchError
from specbench.forecast.acceptance_files import imported, write_profile
from specbench.forecast.acceptance_trace import Trace, read_trace
from specbench.forecast.replay import known_method, rounds
from specbench.forecast.traced_drafter import Text, texts_of
from specbench.forecast.variants import RULE, demand_known, knowing, told
from specbench.forecast.varied import WINDOW
from specbench.method import Method
from specbench.results.derived import Acceptance
from specbench.results.records import Generation, Run
from specbench.stats.acceptance import ENOUGH, Survival, acceptance, survival_of
from specbench.stats.measured_costs import PLANNED, planned_from
from specbench.stats.notes import chances

UNSURE = 0.1  # half an interval of acceptance, from which on a plan says so
LONGEST = 32  # draft lengths that are planned
DRAWN_TOKENS = 384  # of the sequence that chances alone are planned by
WINDOWED_TEXTS = 2  # of them, where proposals are in flight
CLIENT_TEXTS, CLIENT_TOKENS, CLIENT_PROMPT = 64, 128, 64  # what clients ask for, for want of a trace


@dataclass(frozen=True)
class Known:
    """What a plan is made from.

    Args:
        methods: those that are planned; they know the rule by which drafts were accepted.
        texts: of a trace; empty without one.
        is_exact: whether real runs accept as that does; `None` for numbers by hand. `label` says it in words.
        models: what was measured, by role and name; empty where that is unknown.
        source: where it comes from, in words; empty for what nobody measured.
        notes: what makes the acceptance uncertain, a sentence each.
    """

    survival: Survival
    methods: Sequence[Method]
    texts: Sequence[Text] = ()
    is_exact: bool | None = None
    label: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def planned_texts(self) -> Sequence[Text]:
        """The trace's; without one, a sequence with room for every draft in its budget."""
        return self.texts or drawn_texts(self.survival, 1, DRAWN_TOKENS, room=LONGEST + 2)

    @cached_property
    def windowed_texts(self) -> Sequence[Text]:
        """The same for several proposals in flight: what was right of one is the way to the next."""
        return self.texts or epoch_texts(self.survival, WINDOWED_TEXTS, DRAWN_TOKENS, room=LONGEST + 2)

    @cached_property
    def client_texts(self) -> Sequence[Text]:
        """What clients of one target ask for."""
        return self.texts or drawn_texts(self.survival, CLIENT_TEXTS, CLIENT_TOKENS)

    def replayed_texts(self, condition: Mapping[str, object]) -> Sequence[Text]:
        """What a replay without a trace goes over."""
        return self.client_texts if condition.get(WINDOW, 1) == 1 else self.windowed_texts


def known_from(
    trace: Path | None, acceptance: str | None, run: Run | None, chosen: Sequence[Method] = ()
) -> Known:
    """What the one source that is given says.

    Args:
        acceptance: probabilities by position, separated by commas, or a file of another tool's.
        chosen: the methods to plan; all that know the rule when empty.

    Raises:
        SpecbenchError: it cannot be read, or says nothing of acceptance.
    """
    if trace:
        return of_trace(read_trace(trace), chosen)
    if run is None:
        given = acceptance or ""
        is_file = Path(given).is_file()
        return of_file(Path(given), chosen) if is_file else of_chances(_chances(given), chosen)
    if run.faults:
        raise SpecbenchError(
            f"cannot plan from run {run.manifest.run_id}: {run.faults[0]}",
            f"restore the file, or repeat what is missing with 'specbench run --resume {run.manifest.run_id}'",
            ExitCode.STORE,
        )
    found = of_records(run.generations, chosen)
    if found is None:
        raise SpecbenchError(
            f"run {run.manifest.run_id} ({run.manifest.status}) holds no drafts of {' or '.join(PLANNED)}",
            "choose a run of one of them, or pass --acceptance 0.8,0.7,0.65",
        )
    if told := chances(run.manifest):
        return replace(
            found, is_exact=False, label=f"{told} of run {run.manifest.run_id}, independent between rounds"
        )
    return replace(found, models=_models(run.manifest.profile), source=f"run {run.manifest.run_id}")


def _models(profile: Mapping[str, Any]) -> dict[str, str]:
    return {role: profile[role]["model"] for role in ("edge", "cloud") if role in profile}


def _chances(text: str) -> tuple[float, ...]:
    try:
        chances = tuple(float(part) for part in text.split(","))
    except ValueError:
        chances = (-1.0,)
    if not all(0 <= chance <= 1 for chance in chances):
        raise SpecbenchError(
            f"--acceptance {text} is neither a file nor a list of probabilities between 0 and 1",
            "for example --acceptance 0.8,0.7,0.65",
        )
    return chances


def of_trace(trace: Trace, chosen: Sequence[Method] = ()) -> Known:
    """What a trace says; of texts long enough to time."""
    texts = texts_of(trace)
    is_exact, label = told(trace, {})
    methods = _methods([trace.verification], chosen)
    return Known(
        measured_survival(texts), methods, texts, is_exact, label, _models(trace.profile), "an agreement trace"
    )


def of_records(records: Sequence[Generation], chosen: Sequence[Method] = ()) -> Known | None:
    """What a run's answers say; `None` where the method that a plan is made from drafted nothing.

    A draft that reads the target's hidden states cannot draft on before they come, so only the schedule of
    `speculative` is planned for it.
    """
    mine = planned_from(records)
    found = acceptance(mine)
    survival = survival_of(found) if found else None
    if found is None or survival is None:
        return None
    rules = {each.verification for each in mine if each.verification}
    if mine[0].method != "speculative":
        chosen = chosen or [known_method("speculative")]
    return Known(survival, _methods(list(rules), chosen), notes=_of_few(found))


def _of_few(found: Acceptance) -> tuple[str, ...]:
    """That the first position's acceptance is uncertain, where it is (interval of Agresti and Coull 1998)."""
    share, judged = found.conditional[0] or 0.0, found.judged[0]
    centre = (share * judged + 2) / (judged + 4)
    half = 2 * sqrt(centre * (1 - centre) / (judged + 4))
    if half <= UNSURE:
        return ()
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (
        f"few samples: acceptance at position 1 is of {judged} drafts, so it may be anything from {low:.2f} to "
        f"{high:.2f}; run more prompts (--limit)",
    )


def of_chances(chances: Sequence[float], chosen: Sequence[Method] = ()) -> Known:
    """What acceptance by position alone says."""
    return Known(Survival(tuple(chances)), _methods([], chosen))


def of_file(path: Path, chosen: Sequence[Method] = ()) -> Known:
    """What another tool's file says.

    Raises:
        SpecbenchError: it is no such file, or damaged.
    """
    found = imported(path)
    if found is None:
        raise SpecbenchError(
            f"{path} holds no acceptance by position",
            "pass a speculation_profile.json, a result of 'vllm bench serve' or the text of vLLM's /metrics",
            ExitCode.STORE,
        )
    return Known(found.survival, _methods([], chosen), is_exact=False, label=found.label, source=found.label)


def write_acceptance(path: Path, known: Known) -> None:
    """Write measured acceptance for other tools' simulators, as a `speculation_profile.json`.

    Raises:
        SpecbenchError: it was not measured, or the file cannot be written.
    """
    if not known.source:
        raise SpecbenchError(
            "--acceptance-out writes measured acceptance, and this was given or synthetic",
            "pass --trace, --run with a run of real acceptance, or a file to --acceptance",
        )
    write_profile(path, known.survival, known.source, known.models)


def _methods(rules: Sequence[str], chosen: Sequence[Method]) -> Sequence[Method]:
    demand_known(chosen, {RULE: rules})
    return chosen or [known_method(name) for name in knowing({RULE: rules})]


def measured_survival(texts: Sequence[Text]) -> Survival:
    """Conditional acceptance of long drafts over a trace, as far as any draft came."""
    judged, stood = [0] * LONGEST, [0] * LONGEST
    for text in texts:
        for part in rounds(text, LONGEST):
            accepted = part.accepted or 0
            # Where the text ended inside a block, nothing behind the end was judged.
            for position in range(min(part.drafted or 0, accepted + (len(part.tokens) > accepted))):
                judged[position] += 1
                stood[position] += position < accepted
    known = [won / met for won, met in zip(stood, judged, strict=True) if met >= ENOUGH]
    return Survival(tuple(known) or (stood[0] / max(1, judged[0]),))


def drawn_texts(survival: Survival, count: int, tokens: int, room: int = 0) -> list[Text]:
    """Sequences whose drafts stand by these chances, wherever they begin.

    Args:
        room: tokens of the budget that are left at the end.
    """
    coin, lost = random.Random(0), [-share for share in survival.curve(tokens)]
    return [
        Text(CLIENT_PROMPT, tokens + room, tuple(bisect_left(lost, -coin.random()) for _ in range(tokens)))
        for _ in range(count)
    ]


def epoch_texts(survival: Survival, count: int, tokens: int, room: int = 0) -> list[Text]:
    """Sequences whose drafts go on until one is refused: evenly spread lengths up to there, in a random order.

    Args:
        room: as of `drawn_texts`.
    """
    curve = survival.curve(tokens)
    epochs = max(1, round(count * tokens / (1 + sum(curve))))
    lost = [-share for share in curve]
    stood = [bisect_left(lost, -(index + 0.5) / epochs) for index in range(epochs)]
    random.Random(0).shuffle(stood)
    bits = "".join("1" * length + "0" for length in stood) * (1 + count * tokens // sum(stood, epochs))
    return [
        Text.of(bits[start : start + tokens], tokens + room, CLIENT_PROMPT)
        for start in range(0, count * tokens, tokens)
    ]
