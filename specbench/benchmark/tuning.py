"""Settings are chosen on prompts that the reported run does not ask: `--tune-on`, and what `tune` rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from specbench.api import CloudModel, Decoder, EdgeModel, Method, Options
from specbench.benchmark.preparation import Prepared
from specbench.benchmark.prompt_files import asked
from specbench.benchmark.workload import limit_remark, read_prompts, stratified
from specbench.errors import RunError, SpecbenchError, StoreError, nearest
from specbench.profile import Profile
from specbench.profile.loading import with_changes
from specbench.results.environment import expanded
from specbench.results.records import Generation, Manifest, Prompt, Run, Tuning

SPECULATIVE = "speculative."
DRAFT_LENGTHS = (1, 2, 3, 4, 6, 8)


class AtSettings(Method):
    """A method with other settings, so that several of them are measured interleaved.

    Args:
        words: behind the method's name, in brackets.
        settings: values by key of the profile: of `speculative`, or of the method's own options.
    """

    def __init__(self, method: Method, words: str, settings: Mapping[str, object]) -> None:
        self.name = f"{method.name}[{words}]"
        self.summary, self.roles = method.summary, method.roles
        self.own_passes, self.needs_eager = method.own_passes, method.needs_eager
        self.takes_text = getattr(method, "takes_text", False)
        self.reads_features = getattr(method, "reads_features", False)
        self._method, self._changes = method, dict(settings)

    def lossless(self, options: Options) -> bool | None:
        """As the method itself."""
        return self._method.lossless(self._changed(options))

    def repeats_control(self, options: Options) -> bool:
        """As the method itself."""
        return self._method.repeats_control(self._changed(options))

    def validate(self, options: Options) -> None:
        """As the method itself."""
        self._method.validate(self._changed(options))

    def precision_changes(self, options: Options) -> dict[str, str]:
        """As the method itself."""
        return self._method.precision_changes(self._changed(options))

    def helpers(self, options: Options) -> tuple[str, ...]:
        """As the method itself."""
        return self._method.helpers(self._changed(options))

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """As the method itself, with these settings."""
        return self._method.open(edge, cloud, self._changed(options))

    def _changed(self, options: Options) -> Options:
        own = f"methods.{self._method.name}."
        parts: dict[str, dict[str, object]] = {SPECULATIVE: {}, own: {}}
        for key, value in self._changes.items():
            prefix = own if key.startswith(own) else SPECULATIVE
            parts[prefix][key.removeprefix(prefix)] = value
        mine = {**options.methods.get(self._method.name, {}), **parts[own]}
        return replace(
            options,
            speculative=options.speculative.model_copy(update=parts[SPECULATIVE]),
            methods={**options.methods, self._method.name: mine} if mine else options.methods,
        )


@dataclass(frozen=True)
class Split:
    """Prompts to tune on, and prompts to report; none is in both.

    Args:
        on: the category, or the file's absolute path.
    """

    on: str
    tuning: list[Prompt]
    reported: list[Prompt]
    remark: str | None = None


def split(profile: Profile, on: str) -> Split:
    """Divide the workload by a category, or take the prompts of another file to tune on.

    Raises:
        SpecbenchError: `on` is neither, its prompts are among those that are reported, lengths are chosen by
            themselves, or chance accepts what is drafted.
    """
    _demand_judged(profile)
    workload = profile.workload
    if profile.speculative.draft_length == "auto":
        raise SpecbenchError(
            "speculative.draft_length: auto already chooses the draft length, so --tune-on cannot",
            "drop one of them, or add --set speculative.draft_length=4",
        )
    prompts = read_prompts(workload.prompts)
    categories = {prompt.category for prompt in prompts}
    if on in categories:
        chosen = [prompt for prompt in prompts if prompt.category == on]
        rest = [prompt for prompt in prompts if prompt.category != on]
        if not rest:
            raise SpecbenchError(
                f"all prompts are of the category {on}, so no prompt is left for the measurement",
                "tune on a file",
            )
    elif expanded(on).is_file():
        on = str(expanded(on).absolute())
        chosen, rest = read_prompts(on), prompts
    else:
        raise SpecbenchError(
            f"--tune-on {on} is neither a category of the prompts nor a file", nearest(on, categories)
        )
    reported = stratified(rest, workload.limit)
    demand_apart(chosen, reported, on)
    remark = limit_remark(workload, len(reported), len(rest))
    return Split(on, stratified(chosen, workload.limit), reported, remark)


def held_out(profile: Profile, on: str | None, count: int | None) -> list[Prompt]:
    """Prompts to tune on that a run of this profile does not ask: those behind its limit, or another file's.

    Args:
        count: how many; as many as a run asks when absent.

    Raises:
        SpecbenchError: there is none, a run asks one of them too, or chance accepts what is drafted.
    """
    _demand_judged(profile)
    workload = profile.workload
    prompts = read_prompts(workload.prompts)
    asked = stratified(prompts, workload.limit)
    if on is not None:
        rest = read_prompts(on)
        demand_apart(rest, asked, on)
    else:
        ids = {prompt.prompt_id for prompt in asked}
        rest = [prompt for prompt in prompts if prompt.prompt_id not in ids]
    if not rest:
        raise SpecbenchError(
            f"a run of this profile asks all {len(prompts)} prompts, so none is left to tune on",
            "name others with 'specbench tune --on FILE', or set a lower workload.limit",
        )
    return stratified(rest, count or len(asked))


def _demand_judged(profile: Profile) -> None:
    if profile.speculative.synthetic_acceptance is not None:
        raise SpecbenchError(
            "nothing can be tuned with speculative.synthetic_acceptance, for chance accepts what is drafted",
            "add --set speculative.synthetic_acceptance=null",
        )


def demand_apart(chosen: Sequence[Prompt], reported: Sequence[Prompt], on: str) -> None:
    """Refuse prompts to choose settings by that are among those of the measurement.

    Args:
        on: where they are from, in words.

    Raises:
        SpecbenchError: naming the first one that a run asks too, whatever its id.
    """
    known = {turn: prompt.prompt_id for prompt in reported for turn in asked(prompt)}
    for prompt in chosen:
        for turn in asked(prompt):
            if turn in known:
                raise SpecbenchError(
                    f"prompt {prompt.prompt_id} of {on} is also in the measurement ({known[turn]})",
                    "tune on other prompts than those that are measured",
                )


def candidates(prepared: Prepared, method: Method, prompts: Sequence[Prompt]) -> Prepared:
    """The run that measures a method under every draft length, interleaved, on the tuning prompts."""
    lengths = {length: {"speculative.draft_length": length} for length in DRAFT_LENGTHS}
    methods = tuple(AtSettings(method, str(length), settings) for length, settings in lengths.items())
    return replace(prepared, methods=methods, prompts=tuple(prompts))


def choose(run: Run, method: str, on: str) -> Tuning:
    """The draft length with the lowest geometric mean of TPOT, over requests that all of them answered.

    Raises:
        SpecbenchError: a candidate failed, nothing was drafted, or no answer is longer than its first token.
    """
    if run.manifest.failures:
        failure = run.manifest.failures[0]
        raise RunError(
            f"tuning failed: {failure.method}: {failure.error}",
            "fix the method, or set speculative.draft_length by hand instead of --tune-on",
        )
    tpots: dict[str, dict[tuple, float]] = {}
    for record in run.generations:
        if record.tpot_ms and not record.interrupted:
            tpots.setdefault(record.method, {})[_request(record)] = record.tpot_ms
    shared = set.intersection(*(set(found) for found in tpots.values())) if tpots else set()
    if not shared or len(tpots) < len(DRAFT_LENGTHS):
        raise SpecbenchError(f"no answer on {on} is long enough for tuning", "pass a larger --max-new-tokens")
    if not any(part.drafted for record in run.generations for part in record.rounds):
        raise SpecbenchError(
            f"{method} does not draft, so --tune-on has nothing to tune", "name a method that drafts first"
        )
    means = {
        length: math.exp(sum(math.log(tpots[f"{method}[{length}]"][key]) for key in shared) / len(shared))
        for length in DRAFT_LENGTHS
    }
    return Tuning(
        on=on,
        run_id=run.manifest.run_id,
        method=method,
        prompt_ids=run.manifest.prompt_ids,
        tpot_ms={str(length): mean for length, mean in means.items()},
        chosen=min(means, key=lambda length: means[length]),
    )


def of_resumed(manifest: Manifest, on: str) -> Tuning:
    """What a run that is resumed was tuned to.

    Raises:
        SpecbenchError: it was tuned on something else, or not at all.
    """
    if manifest.tuning is None or manifest.tuning.on != on:
        before = manifest.tuning.on if manifest.tuning else "nothing"
        raise StoreError(
            f"run {manifest.run_id} cannot be resumed: it was tuned on {before}, not on {on}",
            "repeat the command of its manifest, or start a new run",
        )
    return manifest.tuning


def as_chosen(prepared: Prepared, split: Split, tuned: Tuning) -> Prepared:
    """The run that is reported: under the chosen draft length, on the prompts that are left."""
    profile = with_changes(prepared.profile, settings={"speculative.draft_length": tuned.chosen})
    remarks = (*prepared.remarks, *filter(None, [split.remark]))
    return replace(prepared, profile=profile, prompts=tuple(split.reported), remarks=remarks)


def _request(record: Generation) -> tuple:
    return (*record.key, record.prompt_sha256)
