"""From a target to a draft: the stages in order, each of which is skipped when its result is there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from specbench.benchmark.media_demands import demand_texts
from specbench.benchmark.workload import parse_prompts
from specbench.distill import heldout, processes, seeds, text_jobs
from specbench.distill.corpus import Corpus
from specbench.distill.export import VOCAB_MAP, export, write_card
from specbench.distill.machine import fast_dtype, keep_freed_memory
from specbench.distill.settings import DEFAULT_LAYERS, SEEDS, Settings, chosen_layers
from specbench.distill.shards import make_shards, read_summary, shard_paths
from specbench.distill.student import Student, build, embedding_rows
from specbench.distill.text import TextMaker
from specbench.distill.training import Trainer
from specbench.distill.writing import Writer
from specbench.errors import SpecbenchError
from specbench.models import files, vocabulary
from specbench.models.context import context_length
from specbench.models.library import moved
from specbench.models.loading import load_config, load_model, load_tokenizer
from specbench.models.stopping import stop_ids
from specbench.profile import CloudSpec, EdgeSpec
from specbench.results.environment import expanded
from specbench.results.records import Prompt
from specbench.roles.edge import EdgeModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

HELDOUT_TOP_K = 128


def distil(settings: Settings, heldout_prompts: Sequence[Prompt] | None = None) -> dict:
    """Make a draft in `settings.out`; returns the facts of its model card.

    Run again with the same settings, it goes on where it was stopped.

    Args:
        heldout_prompts: to evaluate on; the shipped ones when absent.

    Raises:
        SpecbenchError: settings, prompts or a target that cannot work.
    """
    settings.check()
    keep_freed_memory()
    jobs = _jobs(settings)
    spec = CloudSpec(model=settings.target)
    folder = files.locate(spec, weights=True)
    config = load_config(folder, spec).get_text_config()
    count, is_eagle = config.num_hidden_layers, settings.kind == "eagle"
    tokenizer = load_tokenizer(folder, spec)
    size = min(vocabulary.size(tokenizer), config.vocab_size)
    if not settings.start and settings.vocabulary_size > size:
        raise SpecbenchError(
            f"--draft-vocab {settings.vocabulary_size}: the target has {size} tokens",
            "pass a smaller --draft-vocab",
        )
    student_folder = settings.work / "student"
    is_begun = student_folder.is_dir()
    start = _start(settings, tokenizer, config) if settings.start and not is_begun else None
    if start and is_eagle:
        layers = tuple(start.config.feature_layers)
    elif is_eagle:
        layers = settings.feature_layers(count)
    else:
        layers = chosen_layers(settings.layers or DEFAULT_LAYERS, count)
    settings.open()
    if not is_begun:
        prompts = heldout.heldout_prompts() if heldout_prompts is None else heldout_prompts
        read = layers if is_eagle else ()
        unknown = _write_text(settings, folder, tokenizer, size, jobs, prompts, read)
        always = {unknown, *stop_ids(folder, tokenizer)}
        # Loaded again, since the weights were rounded for writing; the student begins with the stored ones.
        model = load_model(folder, spec).model
        _student(settings, start, model, layers, always, unknown, size).save(student_folder)
    student = Student.load(student_folder)
    corpus = Corpus(settings.work / "text")
    answers = heldout.read_answers(settings.work / "heldout.pt")
    if is_eagle:
        from specbench.distill.eagle_training import EagleTrainer  # and torch with it

        trainer: Trainer = EagleTrainer(student, corpus, answers, settings, load_model(folder, spec).model)
    else:
        trainer = Trainer(student, corpus, answers, settings)
    progress = trainer.run()
    export(student, trainer.best, settings, tokenizer)
    summaries = [read_summary(path) for path in shard_paths(settings.work / "text")]
    text = {
        "sequences": len(corpus),
        "tokens": sum(each["written"] for each in summaries),
        "seconds": round(sum(each["seconds"] for each in summaries), 1),
        "tasks": dict(sum((Counter(each["tasks"]) for each in summaries), Counter())),
    }
    return write_card(settings, student, layers, text, progress)


def _start(settings: Settings, tokenizer: PreTrainedTokenizerBase, target: PretrainedConfig) -> EdgeModel:
    """The draft that training begins with, refused before any text is written if it does not fit the target."""
    edge = EdgeModel(EdgeSpec(model=str(settings.start), vocab_map=VOCAB_MAP, dtype="float32"))
    kind = "eagle" if edge.reads_features else "plain"
    if kind != settings.kind:
        raise SpecbenchError(f"--start {settings.start} is a draft of --kind {kind}", f"add --kind {kind}")
    if edge.reads_features:
        size, layers = edge.config.feature_size, edge.config.feature_layers
        if size != target.hidden_size or max(layers) > target.num_hidden_layers:
            raise SpecbenchError(
                f"--start {settings.start} reads hidden states of {size} numbers up to layer {max(layers)} and "
                f"the target has {target.num_hidden_layers} layers of {target.hidden_size}",
                "name a draft that was made for this target",
            )
    assert edge.draft_vocabulary is not None
    edge.draft_vocabulary.demand_target(tokenizer)
    return edge


def _student(
    settings: Settings,
    start: EdgeModel | None,
    target: PreTrainedModel,
    layers: tuple[int, ...],
    always: set[int],
    unknown: int,
    size: int,
) -> Student:
    """What training begins with.

    Args:
        always: ids that its vocabulary holds whatever the text says.
        size: of the target's vocabulary.
    """
    if start:
        known = start.draft_vocabulary
        assert known is not None
        model = load_model(files.locate(start.spec, weights=True), start.spec).model
        return Student(model, np.array(known.target_ids), known.unknown_id, embedding_rows(target))
    corpus = Corpus(settings.work / "text")
    target_ids = corpus.vocabulary(settings.vocabulary_size, size, always)
    if settings.kind == "eagle":
        from specbench.distill.eagle_fit import fit  # and torch with it
        from specbench.distill.eagle_student import build_eagle

        student = build_eagle(target, layers, target_ids, unknown, settings.seed)
        fit(student, moved(target, fast_dtype(str(target.device))), corpus, settings.seed)
        return student
    return build(target, layers, target_ids, unknown)


def _jobs(settings: Settings) -> Callable[[], Iterator[text_jobs.Job]]:
    """What begins the stream of jobs."""
    if settings.prompts == SEEDS:
        return lambda: seeds.jobs(settings.seed)
    name = f"prompts file {settings.prompts}"
    try:
        data = expanded(settings.prompts).read_bytes()
    except OSError as error:
        raise SpecbenchError(
            f"{name} cannot be read: {error.strerror}", "--prompts takes a JSONL file, or 'seeds'"
        ) from error
    prompts = parse_prompts(data, name)
    demand_texts(prompts, "specbench distill")
    return lambda: text_jobs.from_prompts(prompts, settings.answer_tokens, settings.seed)


def _write_text(
    settings: Settings,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
    jobs: Callable[[], Iterator[text_jobs.Job]],
    prompts: Sequence[Prompt],
    layers: tuple[int, ...] = (),
) -> int:
    """Load the target, let it answer the held-out prompts and write the training text.

    The held-out answers are in float32, as the target will be benchmarked; the text in what is fast.

    Args:
        layers: whose hidden states are kept along the text.

    Returns:
        The target's token whose row serves for all that the draft does not know.
    """
    logger.info("loading the target %s", settings.target)
    target = load_model(folder, CloudSpec(model=settings.target)).model
    stops = stop_ids(folder, tokenizer)
    context = context_length(target.config) or 2**31
    context = min(settings.context_tokens, context)
    writer = Writer(target, size, stops, settings.top_k, settings.sequences_at_once)
    answers = settings.work / "heldout.pt"
    if not answers.is_file():
        logger.info("answering %d held-out prompts", len(prompts))
        exact = replace(writer, top_k=HELDOUT_TOP_K)
        heldout.write_answers(answers, TextMaker(exact, tokenizer, context), prompts, settings.heldout_tokens)
    target = moved(target, fast_dtype(str(target.device)))
    if target.device.type == "cpu":
        from specbench.distill.packed_products import pack  # and torch with it

        pack(target, settings.sequences_at_once)
    count = processes.how_many(target.device.type)
    maker = TextMaker(replace(writer, layers=layers), tokenizer, context)
    make_shards(maker, jobs, settings, count)
    candidates = (tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id)
    return next((token for token in candidates if token is not None), min(stops, default=0))
