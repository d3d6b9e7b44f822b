"""What the sizes and times of messages reveal: how well they identify a prompt's task, and the prompt.

An observer sees ciphertext: how large each message is, and when it arrives. Here a classifier of nearest
neighbours guesses from that alone, and its guesses on prompts that it was not given are counted. Published for
speculation inside a server, whose stream shows how much each round accepted (arXiv 2411.01076).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specbench.errors import SpecbenchError, StoreError
from specbench.results.records import Generation, Run
from specbench.stats import intervals
from specbench.stats.observed import SEEN, features_of, has_bytes

FOLDS = 5
NEIGHBOURS = 5
PERMUTATIONS = 999
SEED = 0
FEWEST_CATEGORIES = 2
TASK, PROMPT = "task", "prompt"


@dataclass(frozen=True)
class Identified:
    """How often a guess was right.

    Args:
        identifies: what was guessed, `TASK` (the prompt's category) or `PROMPT`.
        seen: what the observer used, a key of `SEEN`.
        classes: how many tasks, or prompts, there were to choose from.
        accuracy: share of right guesses, each prompt weighing the same; `interval` is over prompts, 95 %.
        chance: the same share in the mean where labels are shuffled among prompts.
        majority: the share that is right by always guessing the most frequent label.
        p_value: share of shuffles that did as well, corrected for all rows of the run (Holm 1979).
    """

    method: str
    identifies: str
    seen: str
    prompts: int
    classes: int
    accuracy: float
    interval: tuple[float, float]
    chance: float
    majority: float
    p_value: float


@dataclass(frozen=True)
class Leak:
    """What the messages of a run reveal; `notes` says what was left out, and why."""

    run_id: str
    rows: tuple[Identified, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Answers of one method.

    Args:
        prompt: of each answer, the number of its prompt; `repeat` which time it was asked.
        category: of each prompt.
    """

    records: tuple[Generation, ...]
    prompt: np.ndarray
    repeat: np.ndarray
    category: tuple[str, ...]


def leak(run: Run) -> Leak:
    """How well the messages of each method identify task and prompt.

    Raises:
        SpecbenchError: the run is damaged, has no bytes of messages, or too few prompts of too few categories.
    """
    name = run.manifest.run_id
    if run.faults:
        raise StoreError(f"no leak of run {name}: {run.faults[0]}", "restore the file, or run it again")
    methods = [each for each in run.manifest.methods if run.of(each)]
    sending = [each for each in methods if any(has_bytes(record) for record in run.of(each))]
    if not sending:
        raise SpecbenchError(
            f"run {name} has no bytes of messages: edge and cloud were in one process, or nothing was sent",
            "make one with 'specbench run speculative --set cloud.placement=process'",
        )
    notes = [f"{each} sent nothing and is left out" for each in methods if each not in sending]
    rows: list[Identified] = []
    for method in sending:
        answers, left_out = _answers(run, method)
        if left_out:
            names = ", ".join(left_out)
            notes.append(f"{method}: categories of fewer than {FOLDS} prompts are left out: {names}")
        rows += [_of_task(method, seen, answers) for seen in SEEN]
        again = _asked_again(answers)
        if len(again.category) >= FOLDS:
            rows += [_of_prompt(method, seen, again) for seen in SEEN]
        else:
            notes.append(
                f"{method} has under {FOLDS} prompts with repeats; to identify prompts, raise workload.repeats"
            )
    corrected = intervals.holm([row.p_value for row in rows])
    rows = [replace(row, p_value=p_value) for row, (_, p_value) in zip(rows, corrected, strict=True)]
    return Leak(name, tuple(rows), tuple(notes))


def folds(categories: Sequence[str], seed: int = SEED) -> np.ndarray:
    """The fold of each prompt: categories are spread evenly over the folds, in random order."""
    order = np.random.default_rng(seed).permutation(len(categories))
    order = np.array(sorted(order, key=lambda prompt: categories[prompt]))
    found = np.empty(len(categories), dtype=int)
    found[order] = np.arange(len(categories)) % FOLDS
    return found


def nearest(features: np.ndarray, prompt: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
    """The prompts whose answers look most like each answer of `test`, nearest first, shape (answers, count).

    The other answers are known, and scale each feature. A prompt is as near as its nearest answer.
    """
    from scipy.spatial.distance import cdist

    scale = features[~test].std(0)
    scaled = features / np.where(scale > 0, scale, 1)
    distance = np.full((int(prompt.max()) + 1, int(test.sum())), np.inf)
    np.minimum.at(distance, prompt[~test], cdist(scaled[~test], scaled[test]))
    return np.argsort(distance.T, axis=1, kind="stable")[:, :count]


def neighbours(features: np.ndarray, prompt: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The prompts of other folds that each answer looks most like; `fold` is of each prompt."""
    near = np.empty((len(prompt), NEIGHBOURS), dtype=int)
    for each in range(FOLDS):
        test = fold[prompt] == each
        near[test] = nearest(features, prompt, test, NEIGHBOURS)
    return near


def _of_task(method: str, seen: str, answers: Answers) -> Identified:
    features, prompt = features_of(answers.records, seen), answers.prompt
    names, labels = np.unique(answers.category, return_inverse=True)
    fold = folds(answers.category)
    near = neighbours(features, prompt, fold)

    def right(labels: np.ndarray) -> np.ndarray:
        return _vote(labels[near], len(names)) == labels[prompt]

    def shuffled(rng: np.random.Generator) -> np.ndarray:
        mixed = labels.copy()
        for each in range(FOLDS):
            mixed[fold == each] = rng.permutation(labels[fold == each])
        return right(mixed)

    majority = Counter(answers.category).most_common(1)[0][1] / len(answers.category)
    return _judged(method, TASK, seen, answers, right(labels), shuffled, len(names), majority)


def _of_prompt(method: str, seen: str, answers: Answers) -> Identified:
    features, prompt = features_of(answers.records, seen), answers.prompt
    guess = np.empty(len(prompt), dtype=int)
    for each in np.unique(answers.repeat):
        test = answers.repeat == each
        guess[test] = nearest(features, prompt, test, 1)[:, 0]
    count = len(answers.category)

    def shuffled(rng: np.random.Generator) -> np.ndarray:
        return guess == rng.permutation(count)[prompt]

    return _judged(method, PROMPT, seen, answers, guess == prompt, shuffled, count, 1 / count)


def _judged(
    method: str,
    identifies: str,
    seen: str,
    answers: Answers,
    right: np.ndarray,
    shuffled: Callable[[np.random.Generator], np.ndarray],
    classes: int,
    majority: float,
) -> Identified:
    def by_prompt(values: np.ndarray) -> np.ndarray:
        return np.bincount(answers.prompt, values) / np.bincount(answers.prompt)

    rng = np.random.default_rng(SEED)
    shares = by_prompt(right)
    accuracy = float(shares.mean())
    by_chance = np.array([by_prompt(shuffled(rng)).mean() for _ in range(PERMUTATIONS)])
    low, high = intervals.bootstrap(shares, answers.category, seed=SEED).interval()
    return Identified(
        method=method,
        identifies=identifies,
        seen=seen,
        prompts=len(shares),
        classes=classes,
        accuracy=accuracy,
        interval=(max(0.0, float(low)), min(1.0, float(high))),
        chance=float(by_chance.mean()),
        majority=majority,
        p_value=float(1 + np.sum(by_chance >= accuracy - 1e-12)) / (1 + PERMUTATIONS),
    )


def _vote(labels: np.ndarray, classes: int) -> np.ndarray:
    """The label that most neighbours have; of several, that of the nearest."""
    weights = 1 - np.arange(labels.shape[1]) / 100
    return np.argmax([(weights * (labels == each)).sum(1) for each in range(classes)], axis=0)


def _asked_again(answers: Answers) -> Answers:
    """The answers to prompts that were answered more than once."""
    repeats = np.array([len(set(answers.repeat[answers.prompt == at])) for at in range(len(answers.category))])
    kept = repeats > 1
    chosen = kept[answers.prompt]
    return Answers(
        records=tuple(each for each, is_chosen in zip(answers.records, chosen, strict=True) if is_chosen),
        prompt=(np.cumsum(kept) - 1)[answers.prompt[chosen]],
        repeat=answers.repeat[chosen],
        category=tuple(name for name, is_kept in zip(answers.category, kept, strict=True) if is_kept),
    )


def _answers(run: Run, method: str) -> tuple[Answers, list[str]]:
    """The answers to categories with enough prompts, and the categories that have too few."""
    records = run.of(method)
    category = {record.prompt_id: record.category for record in records}
    sizes = Counter(category.values())
    enough = [name for name, size in sizes.items() if size >= FOLDS]
    if len(enough) < FEWEST_CATEGORIES:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise SpecbenchError(
            f"run {run.manifest.run_id} has too few prompts of {method} to tell tasks apart ({counts}): "
            f"{FEWEST_CATEGORIES} categories of at least {FOLDS} prompts are needed",
            "ask more with 'specbench run --limit N', or others with 'specbench run --prompts FILE'",
        )
    ids = [prompt_id for prompt_id, name in category.items() if name in enough]
    number = {prompt_id: index for index, prompt_id in enumerate(ids)}
    kept = [record for record in records if record.prompt_id in number]
    answers = Answers(
        records=tuple(kept),
        prompt=np.array([number[record.prompt_id] for record in kept]),
        repeat=np.array([record.repeat for record in kept]),
        category=tuple(category[prompt_id] for prompt_id in ids),
    )
    return answers, [name for name in sizes if name not in enough]
