"""Agreement traces: what a draft would have said along the target's own texts, as a file to exchange.

Greedy and coupled output is the target's, whatever the draft. So whether the draft agrees at each position of
that output decides what any schedule would have accepted: any draft length, any link, any speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from specbench.atomic import write_json
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Profile

TRACE_VERSION = 1
Top = tuple[tuple[int, ...], tuple[float, ...]]  # token ids, the likeliest first, and their log-probabilities
KIND = "specbench agreement trace"


@dataclass(frozen=True)
class TracedText:
    """One text of the target's, and the draft along it; position 0 is the first token behind the prompt.

    Args:
        prompt_sha256: of the prompt's token ids, as in a stored run.
        tokens: the target's ids, a stop token included.
        agrees: by position, `1` where the draft's choice behind the target's own prefix is the target's token,
            else `0`. The first one counts for nothing: the target commits it before anything is drafted.
        entropy: of the draft's distribution, in nats; by temperature 1 where decoding is greedy.
        margin: between its two highest probabilities.
        log_probability: of the token that the draft would choose, in nats.
        chances: how likely the rule accepts there, where that is drawn or the rule lossy; `agrees` is then one
            draw by it, and every replay approximate, for the text would have been another.
        draft_top: by position, the likeliest tokens of the draft's distribution at temperature 1: at most 20,
            and those that make up 99.9 %; `target_top` likewise. By them other rules are replayed.
        target_rank: by position, how many tokens the target finds likelier than the draft's choice.
        prompt_ids: the prompt's token ids, for drafters that read them.
    """

    prompt_id: str
    category: str
    turn: int
    repeat: int
    prompt_tokens: int
    prompt_sha256: str
    max_new_tokens: int
    tokens: tuple[int, ...]
    agrees: str
    entropy: tuple[float, ...]
    margin: tuple[float, ...]
    log_probability: tuple[float, ...]
    chances: tuple[float, ...] | None = None
    draft_top: tuple[Top, ...] | None = None
    target_top: tuple[Top, ...] | None = None
    target_rank: tuple[int, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse fields that do not fit together."""
        count = len(self.tokens)
        columns = [self.agrees, self.entropy, self.margin, self.log_probability]
        sparse = (self.chances, self.draft_top, self.target_top, self.target_rank)
        columns += [column for column in sparse if column is not None]
        tops = [*(self.draft_top or ()), *(self.target_top or ())]
        if any(not ids or len(ids) != len(logs) for ids, logs in tops):
            raise ValueError(f"text {self.prompt_id}: a list of likely tokens does not fit its probabilities")
        if not 1 <= count <= self.max_new_tokens or {len(column) for column in columns} != {count}:
            raise ValueError(f"text {self.prompt_id}: its {count} tokens do not fit its other columns")
        if not set(self.agrees) <= {"0", "1"}:
            raise ValueError(f"text {self.prompt_id}: agrees is not made of 0 and 1")


@dataclass(frozen=True)
class Trace:
    """Texts with their agreement, and everything that they depend on.

    Args:
        exact: whether a replay is what a real run does, ties aside; else it is approximate.
        models: by role, the SHA-256 of every file of its folder.
        profile: the whole resolved profile: models, dtypes, decoding, verification rule, workload.
        engines: by role, what really ran the passes.
    """

    exact: bool
    verification: str
    created_at: str
    tokenizer_sha256: str
    prompts_sha256: str
    models: dict[str, dict]
    profile: dict
    engines: dict[str, str]
    versions: dict[str, str]
    texts: tuple[TracedText, ...]
    kind: str = KIND
    schema_version: int = TRACE_VERSION


def demand_traceable(profile: Profile) -> None:
    """Refuse what no trace can say.

    Raises:
        SpecbenchError: the profile has a gate, or synthetic acceptance.
    """
    if profile.speculative.synthetic_acceptance is not None:
        raise SpecbenchError(
            "a trace cannot be made with synthetic acceptance, which does not look at the draft",
            "--set speculative.synthetic_acceptance=null",
        )
    if profile.speculative.gate is not None:
        raise SpecbenchError(
            "a trace cannot be made with a gate, which accepts tokens that the target never verified",
            "--set speculative.gate=null",
        )


def write_trace(path: Path, trace: Trace) -> None:
    """Store a trace as JSON; whole or not at all.

    Raises:
        SpecbenchError: the file cannot be written.
    """
    write_json(path, trace, indent=0)


def read_trace(path: Path) -> Trace:
    """A stored trace.

    Raises:
        SpecbenchError: the file cannot be read, is no trace, damaged, or of another schema version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecbenchError(
            f"trace {path} cannot be read: {error.strerror}",
            "make one with 'specbench trace --out FILE'",
            ExitCode.STORE,
        ) from error
    try:
        head = msgspec.json.decode(data)
        if not isinstance(head, dict) or head.get("kind") != KIND:
            raise SpecbenchError(
                f"{path} is not a trace", "make one with 'specbench trace --out FILE'", ExitCode.STORE
            )
        if head.get("schema_version") != TRACE_VERSION:
            raise SpecbenchError(
                f"trace {path} has schema version {head.get('schema_version')}; this specbench reads "
                f"{TRACE_VERSION}",
                "make it again, or use the specbench that wrote it",
                ExitCode.STORE,
            )
        trace = msgspec.convert(head, Trace)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SpecbenchError(
            f"trace {path} is damaged: {error}", "make or copy it again", ExitCode.STORE
        ) from error
    if not trace.texts:
        raise SpecbenchError(f"trace {path} has no texts", "make it again", ExitCode.STORE)
    return trace
