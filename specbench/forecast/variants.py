"""What if the draft, or what judges it, were another? The same texts, changed: approximate, and said to be."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_trace import Trace, TracedText
from specbench.forecast.replay import SCHEDULES, known_method
from specbench.forecast.rule_acceptance import chances
from specbench.forecast.traced_drafter import Text, runs_of, unsure_in
from specbench.forecast.varied import WINDOW, demand_own, takes_window
from specbench.method import Method, SpeculativeMethod
from specbench.profile import Decoding, Speculative
from specbench.profile.loading import validated
from specbench.speculation.rules import RULES

Profiled = tuple[Decoding, Speculative]
AGREEMENT = "agreement"
GATES: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gate.entropy": ("entropy", operator.le),
    "gate.margin": ("margin", operator.ge),
    "gate.log_probability": ("log_probability", operator.ge),
}
"""By key, the column of a trace that a gate measures, and how it compares with the threshold."""
STOP = "confidence_stop"
RULE, TEMPERATURE = "verification", "temperature"
SETTINGS = {
    RULE: "speculative",
    "rank": "speculative",
    "typical_epsilon": "speculative",
    "typical_delta": "speculative",
    TEMPERATURE: "decoding",
    "top_p": "decoding",
    "top_k": "decoding",
}
"""What a rule is told, by the part of a profile that has it."""
KEYS = (AGREEMENT, *SETTINGS, *GATES, STOP)


def knowing(over: Mapping[str, Sequence[object]]) -> list[str]:
    """The methods that know all of a grid's rules and gates; a trace's own rule is one of them (`RULE`)."""
    return [method for method in SCHEDULES if _unknown(known_method(method), over) is None]


def demand_known(methods: Sequence[str | Method], over: Mapping[str, Sequence[object]]) -> None:
    """Refuse what the real methods refuse.

    Raises:
        SpecbenchError: one of them has no gate, or not that rule or option.
    """
    found = [known_method(method) for method in methods]
    demand_own(found, over)
    for method in found:
        if unknown := _unknown(method, over):
            raise SpecbenchError(
                f"{unknown} is not supported by {method.name}", f"replay {knowing(over)[0]} instead"
            )


def _unknown(method: Method, over: Mapping[str, Sequence[object]]) -> str | None:
    if not isinstance(method, SpeculativeMethod):
        return None
    for key in GATES:
        if not method.takes_gate and any(value is not None for value in over.get(key, ())):
            return key
    if not takes_window(method) and any(window != 1 for window in over.get(WINDOW, ())):
        return f"another {WINDOW} than 1"
    if not method.takes_confidence_stop and any(value is not None for value in over.get(STOP, ())):
        return STOP
    for rule in over.get(RULE, ()):
        if isinstance(rule, str) and rule in RULES and rule not in method.rules:
            return f"verification {rule}"
    return None


def told(trace: Trace, over: Mapping[str, Sequence[object]]) -> tuple[bool, str]:
    """Whether schedules over a trace take what real ones do, and as words, with the reason why not."""
    if changes := [key for key in KEYS if key in over and key != STOP]:
        return False, f"approximate: {' and '.join(changes)} would change the text"
    if STOP in over:
        return False, f"approximate: where {STOP} ends a draft behind a wrong token is not in the trace"
    return trace.exact, "exact" if trace.exact else f"approximate: {trace.verification} changes the text"


def variants(
    texts: Sequence[Text],
    traced: Sequence[TracedText],
    over: Mapping[str, Sequence[object]],
    profile: Mapping[str, Mapping] | None = None,
) -> Callable[[Mapping[str, object]], Sequence[Text]]:
    """What texts become under each condition of a grid.

    Args:
        traced: the same texts as they are stored, for what a gate measures and a rule weighs.
        profile: of the trace; what a rule is not told otherwise.

    Raises:
        SpecbenchError: a value is none of its key, or two gates are asked for at once.
    """
    gates = [key for key in GATES if key in over]
    if len(gates) > 1:
        raise SpecbenchError(f"{gates[0]} and {gates[1]}: only one gate can be varied", "leave out one of them")
    known: dict[str, Sequence[Text]] = {}

    def changed(condition: Mapping[str, object]) -> Sequence[Text]:
        # As text, for a value may be a list, and 1 is not true.
        values = repr([condition.get(key) for key in KEYS])
        if values not in known:
            found = texts
            if not SETTINGS.keys().isdisjoint(condition):
                found = judged(texts, traced, settings(profile or {}, condition))
            if AGREEMENT in condition:
                found = with_agreement(found, condition[AGREEMENT])
            for key in gates:
                found = gated(found, traced, key, condition[key])
            if condition.get(STOP) is not None:
                found = stopped(found, traced, condition[STOP])
            known[values] = found
        return known[values]

    return changed


def gated(texts: Sequence[Text], traced: Sequence[TracedText], key: str, threshold: object) -> Sequence[Text]:
    """The same texts behind a gate; `None` is none.

    What a gate lets pass is committed whether or not the draft agrees, so a real text would go on otherwise
    than the traced one; here it goes on as that does.

    Raises:
        SpecbenchError: the threshold is not a number.
    """
    if threshold is None:
        return texts
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise SpecbenchError(f"{key}: {threshold!r} is not a number", f"for example {key}=0.1,0.5")
    column, passes = GATES[key]
    found = []
    for text, known in zip(texts, traced, strict=True):
        bits = "".join("01"[passes(value, threshold)] for value in getattr(known, column))
        found.append(replace(text, sure=runs_of(bits)))
    return found


def stopped(texts: Sequence[Text], traced: Sequence[TracedText], threshold: object) -> list[Text]:
    """The same texts, along which a draft ends behind a token that is less probable than the threshold.

    Raises:
        SpecbenchError: the threshold is no probability.
    """
    stop = validated(Speculative, {STOP: threshold}, "speculative").confidence_stop
    assert stop is not None
    return [replace(text, unsure=unsure_in(known, stop)) for text, known in zip(texts, traced, strict=True)]


def settings(profile: Mapping[str, Mapping], condition: Mapping[str, object]) -> Profiled:
    """Decoding and verification of a trace's profile, with the condition's values.

    Raises:
        SpecbenchError: one of them is none.
    """
    decoding, spec = {**profile.get("decoding", {})}, {**profile.get("speculative", {}), "gate": None}
    if not condition.get(TEMPERATURE, True):
        decoding |= {"top_p": 1.0, "top_k": 0, "min_p": 0.0}  # those of a trace that was sampled
    for key, part in SETTINGS.items():
        if key in condition:
            (decoding if part == "decoding" else spec)[key] = condition[key]
    found = validated(Decoding, decoding, "the replay's decoding"), validated(Speculative, spec, "the replay")
    if found[1].verification == "greedy" and found[0].temperature:
        raise SpecbenchError(
            f"verification greedy needs temperature 0, not {found[0].temperature:g}",
            "such as --over verification=coupled,rejection --over temperature=0.8",
        )
    return found


def judged(texts: Sequence[Text], traced: Sequence[TracedText], rules: Profiled) -> list[Text]:
    """The same texts judged by another rule, a draw by its chances at each position.

    Raises:
        SpecbenchError: the trace does not hold the likeliest tokens.
    """
    found = []
    for number, (text, known) in enumerate(zip(texts, traced, strict=True)):
        if known.draft_top is None:
            raise SpecbenchError(
                "this trace does not hold what another rule would weigh",
                "make it again with 'specbench trace', with the target in this process",
            )
        coin = random.Random(number)
        bits = "".join("01"[coin.random() < chance] for chance in chances(known, *rules))
        found.append(replace(text, runs=runs_of(bits), likely=()))
    return found


def with_agreement(texts: Sequence[Text], share: object) -> list[Text]:
    """The same texts with a draft that agrees at this share of positions: what if it were better, or worse?

    Positions change at random, each with the same chance, so what a heavy head or long runs do is weakened. A
    larger share keeps every agreement of a smaller one.

    Raises:
        SpecbenchError: `share` is not a number between 0 and 1.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise SpecbenchError(
            f"agreement: {share!r} is not a share between 0 and 1", "for example agreement=0.5,0.8"
        )
    bits = [run > 0 for text in texts for run in text.runs[1:]]
    known = sum(bits) / len(bits)
    coin = random.Random(0)
    changed = []
    for text in texts:
        agrees = "0"
        for run in text.runs[1:]:
            place = coin.random()  # where the position stands between the surest agreement and the last to come
            place = place * known if run else known + place * (1 - known)
            agrees += "01"[place < share]
        changed.append(replace(text, runs=runs_of(agrees), sure=(), unsure=frozenset(), likely=()))
    return changed
