"""Everything that is checked before anything is timed, in the order of what it costs."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from specbench import precision
from specbench.api import CloudModel, EdgeModel, Method, Options, Request
from specbench.benchmark import audits, conversation
from specbench.benchmark.chat_form import ChatForm, read_template
from specbench.benchmark.demands import (
    demand_cloud,
    demand_grammars,
    demand_known,
    demand_text,
    demand_torch,
    with_engine_of,
)
from specbench.benchmark.media_demands import demand_media, drafting
from specbench.benchmark.memory_check import demand_memory
from specbench.benchmark.prompt_files import Shown, media_of
from specbench.benchmark.stored_prompts import prompts_sha256
from specbench.benchmark.workload import limit_remark, load_prompts, read_prompts
from specbench.cloud import cloud_of
from specbench.cloud.link import emulated
from specbench.cloud.link.link_trace import read_trace
from specbench.engine.threads import spin_briefly
from specbench.errors import naming
from specbench.models import vocabulary
from specbench.models.llama_library import tokenizer_remark
from specbench.profile import HELPERS, Profile, settings_hash
from specbench.registry import blaming
from specbench.results.records import Audit, Prompt
from specbench.speculation.grammar import Grammar
from specbench.speculation.stop_strings import StopStrings, text_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Methods, prompts and models that fit together; weights are not loaded yet."""

    profile: Profile
    methods: tuple[Method, ...]
    prompts: tuple[Prompt, ...]
    edge: EdgeModel
    cloud: CloudModel
    context_length: int | None
    remarks: tuple[str, ...] = ()
    """What must be known of what is asked: which prompts are left out, and how they are put."""
    drafts_media: bool = False
    """Whether the edge's model reads images and sounds of prompts too."""
    restart: int | None = None
    """Which of the profile's restarts this process makes, from 0; `None` where there are none."""

    @property
    def asked_repeats(self) -> range:
        """The repeats that this process asks; those of further restarts are numbered on."""
        repeats = self.profile.workload.repeats
        return range((self.restart or 0) * repeats, ((self.restart or 0) + 1) * repeats)

    @property
    def awaits_restarts(self) -> bool:
        """Whether further processes go on with the run."""
        return self.restart is not None and self.restart + 1 < self.profile.workload.restarts

    @property
    def status_at_end(self) -> str:
        """What a run is whose process came to its end."""
        return "interrupted" if self.awaits_restarts else "finished"

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that are loaded for these methods."""
        used = {role for method in self.methods for role in method.roles}
        options = Options.of(self.profile)
        helpers = [HELPERS + name for method in self.methods for name in method.helpers(options)]
        return *(role for role in ("edge", "cloud") if role in used), *dict.fromkeys(helpers)

    def audit(self) -> list[Audit]:
        """What precision the loaded models really have, the draft that a cloud elsewhere runs among them."""
        found = [self.factory(role).audit() for role in self.roles if self.factory(role).is_loaded]
        there = self.cloud.audit_draft()
        return [*found, there] if there else found

    def factory(self, role: str) -> EdgeModel | CloudModel:
        """The factory of a role."""
        if role.startswith(HELPERS):
            return self.edge.helper(role.removeprefix(HELPERS))
        return self.edge if role == "edge" else self.cloud

    def demand_steady(self, prompt: Prompt, tokens: int, budget: int, turns: int = 1) -> None:
        """Refuse a text on whose way a model changes its rotary frequencies; see `conversation.demand_steady`.

        Raises:
            SpecbenchError: one does.
        """
        from specbench.models.context import switch_of

        for role in self.roles:
            if role == "cloud" and self.profile.cloud.backend == "openai":
                continue  # the server chooses one set of frequencies for all lengths
            factory = self.factory(role)
            switch = switch_of(factory.config)
            conversation.demand_steady(
                prompt, tokens, budget, turns, switch, f"the {role} model {factory.spec.model}"
            )

    def request(
        self, prompt: Prompt, turn: int, repeat: int, replies: Sequence[str], budget: int | None = None
    ) -> Request:
        """What is asked in one turn, behind a method's own earlier replies.

        Args:
            budget: tokens; those of the workload when absent.

        Raises:
            SpecbenchError: it does not fit the context, or the chat template refuses it.
        """
        workload = self.profile.workload
        budget = workload.max_new_tokens if budget is None else budget
        with naming(f"prompt {prompt.prompt_id}"):
            turns, form = prompt.turns[: turn + 1], self.form(prompt)
            shown = Shown.of(prompt, self.cloud)
            ids = conversation.prompt_ids(self.cloud.tokenizer, turns, replies, form, shown)
            media = media_of(shown, turn + 1, self.drafts_media)
        conversation.demand_room(prompt, len(ids), budget, self.context_length)
        self.demand_steady(prompt, len(ids), budget)
        seed = random.Random(f"{workload.seed}/{repeat}/{prompt.prompt_id}/{turn}")
        stops = StopStrings.of(self.profile.decoding, self.cloud.tokenizer)
        grammar = self.grammar(prompt)
        if grammar:
            grammar.constraint()  # compiles it, off the clock
        return Request(tuple(ids), budget, self.stop_ids, seed.getrandbits(63), stops, grammar, media)

    def grammar(self, prompt: Prompt) -> Grammar | None:
        """What the answers to a prompt may be; `None` where they may be any text."""
        definition = self.form(prompt).grammar
        return Grammar(*definition, self.stop_ids, self.cloud.tokenizer) if definition else None

    def read_text(self, request: Request) -> str | None:
        """What the target reads, special tokens included; `None` unless the profile keeps it."""
        if not self.profile.workload.keep_prompts:
            return None
        ids = list(request.prompt_ids)
        return str(self.cloud.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def form(self, prompt: Prompt) -> ChatForm:
        """How a prompt's conversation is put to the target."""
        return ChatForm.of(self.profile.workload, prompt, self._template)

    @cached_property
    def _template(self) -> str | None:
        return read_template(self.profile.workload)

    @property
    def prompts_sha256(self) -> str:
        """Hash of what is asked."""
        return prompts_sha256(self.prompts, self.form)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text."""
        return frozenset() if self.profile.decoding.ignore_eos else self.cloud.stop_ids

    def text(self, request: Request, tokens: Sequence[int]) -> str:
        """What is stored of an answer: without special tokens, and cut before its stop string."""
        if request.stop_strings:
            return request.stop_strings.text(tokens)
        return text_of(self.cloud.tokenizer, tokens)


def prepare(
    profile: Profile,
    methods: Sequence[Method],
    prompts: Sequence[Prompt] | None = None,
) -> Prepared:
    """Check settings, prompts, vocabularies, context and memory.

    Args:
        prompts: those of the profile's workload when absent.

    Raises:
        SpecbenchError: the first thing that is wrong.
    """
    options = Options.of(profile)
    for method in methods:
        method.own(options, method.settings)
        with blaming(method):
            method.validate(options)
            method.helpers(options)
    demand_cloud(profile, methods)
    demand_torch(profile, methods)
    remarks: list[str | None] = []
    if prompts is None:
        prompts = load_prompts(profile.workload)
        there = len(read_prompts(profile.workload.prompts))
        remarks.append(limit_remark(profile.workload, len(prompts), there))
    profile = with_engine_of(profile, methods, prompts)
    audits.demand_declared(profile, methods)
    if profile.link.trace is not None:
        read_trace(profile.link.trace)
    if profile.link.kind == "emulated":
        emulated.demand(profile.link)
    configure_torch(profile)
    edge = EdgeModel(profile.edge, profile.engine)
    cloud = cloud_of(profile)
    cloud.draft = edge
    prepared = Prepared(profile, tuple(methods), tuple(prompts), edge, cloud, None)
    for role in prepared.roles:
        draft = prepared.factory(role)
        if isinstance(draft, EdgeModel):
            remarks.append(draft.demand_same_tokens(cloud, profile.speculative.cross_vocabulary))
            if draft.retokenizer:
                demand_text(methods, profile.speculative)
            draft.demand_quantizable()
    demand_media(profile, methods, prompts, edge, cloud)
    drafts_media, remark = drafting(profile, methods, prompts, edge, cloud)
    prepared = replace(prepared, drafts_media=drafts_media)
    remarks.append(remark)
    _ = cloud.stop_ids  # a damaged generation_config.json is named before anything is loaded
    if profile.decoding.logit_bias:
        demand_known(profile.decoding.logit_bias, vocabulary.size(cloud.tokenizer))
    remarks.append(demand_grammars(profile, [prepared.grammar(prompt) for prompt in prompts], prompts))
    lengths = [prepared.factory(role).context_length for role in prepared.roles]
    context_length = min((length for length in lengths if length is not None), default=None)
    if profile.workload.chat_template is None:
        remarks.append(conversation.template_remark(cloud.tokenizer, cloud.spec.model))
    remarks.append(tokenizer_remark(cloud.folder, cloud.tokenizer))
    known = tuple(remark for remark in remarks if remark)
    for remark in known:
        logger.info(remark)
    longest = 0
    for prompt in prompts:
        budget = profile.workload.max_new_tokens
        with naming(f"prompt {prompt.prompt_id}"):
            turns, form = range(1, len(prompt.turns) + 1), prepared.form(prompt)
            shown, ask = Shown.of(prompt, cloud), cloud.tokenizer
            shortest = [conversation.least_tokens(ask, prompt.turns[:turn], form, shown) for turn in turns]
            # The last turn is the longest.
            tokens = conversation.most_tokens(ask, prompt.turns, budget, form, shown)
        for turn in turns:
            # Before a turn stand all earlier ones, and a reply of up to the whole budget to each.
            prepared.demand_steady(prompt, shortest[turn - 1], budget, turn)
        conversation.demand_room(prompt, tokens, budget, context_length)
        longest = max(longest, tokens + budget)
    here = [role for role in prepared.roles if role != "cloud" or not profile.cloud.is_elsewhere]
    demand_memory({role: prepared.factory(role) for role in here}, longest)
    return replace(prepared, context_length=context_length, remarks=known)


def configure_torch(profile: Profile) -> None:
    """Settings of the whole process: threads, and what float32 is computed as. Comes before torch."""
    spin_briefly()
    import torch

    if profile.threads is not None:
        torch.set_num_threads(profile.threads)
    precision.switches.configure(profile.precision.allow_tf32)


def model_files(prepared: Prepared) -> dict[str, dict]:
    """By role, the SHA-256 of every file of its model, and what its weights are stored as."""
    from specbench.models import files, storage

    models: dict[str, dict] = {}
    for role in prepared.roles:
        factory = prepared.factory(role)
        if role == "cloud" and prepared.profile.cloud.is_elsewhere:
            models[role] = prepared.cloud.elsewhere
            continue
        folder = files.locate(factory.spec, weights=True)
        models[role] = {"files": files.fingerprint(folder), "stored": list(storage.stored_as(folder))}
        if own := factory.draft_vocabulary:
            models[role]["vocab_map_sha256"] = settings_hash(own.target_ids, own.unknown_id)
    return models
