"""Makes agreement traces: the target writes its texts, then the draft reads each of them in wide passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from specbench.api import AutoregressiveDecoder, Method, Options, Request
from specbench.benchmark import conversation
from specbench.benchmark.preparation import Prepared, model_files
from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_trace import Top, Trace, TracedText
from specbench.results.environment import versions
from specbench.results.records import Prompt

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch

    from specbench.engine.base import Engine

MOST_TOP, TOP_SHARE = 20, 0.999  # of a distribution's likeliest tokens
WIDTH = 64  # up to here, the rows of a batch-invariant engine have the bits of single steps
DIGITS = 4


def make_trace(prepared: Prepared, method: Method) -> Trace:
    """Trace every text of the workload.

    Args:
        method: the speculative one; it knows by which options its text is the control's.
    """
    from specbench.models import vocabulary

    for prompt in prepared.prompts:
        if prepared.grammar(prompt):
            raise SpecbenchError(
                f"prompt {prompt.prompt_id} has a grammar: a trace does not say which tokens it forces, so a "
                "replay would charge a draft step for each of them",
                "trace prompts without a grammar, or measure them with 'specbench run'",
            )
    prepared.edge.demand_target_ids()
    profile, options = prepared.profile, Options.of(prepared.profile)
    exact = method.repeats_control(options)
    target = AutoregressiveDecoder(prepared.cloud.target(options))
    # Elsewhere, the target's distributions stay where it is; rules that need them are refused there.
    judge = prepared.cloud.engine if prepared.cloud.is_here or not exact else None
    texts: list[TracedText] = []
    for prompt, repeat in _questions(prepared):
        logger.info(f"prompt {prompt.prompt_id} ({prompt.category})")
        replies: list[str] = []
        for turn in range(len(prompt.turns)):
            try:
                request = prepared.request(prompt, turn, repeat, replies)
            except SpecbenchError as error:
                if turn == 0:
                    raise
                logger.info(f"turn {turn + 1} of prompt {prompt.prompt_id} is skipped: {error.message}")
                break
            tokens = tuple(token for part in target.generate(request) for token in part.tokens)
            columns = readings(prepared.edge.engine, options, request, tokens, judge, drawn=not exact)
            texts.append(_text(prompt, turn, repeat, request, tokens, columns))
            replies.append(prepared.text(request, tokens))
    return Trace(
        exact=exact,
        verification=options.speculative.verification,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tokenizer_sha256=vocabulary.fingerprint(prepared.cloud.tokenizer),
        prompts_sha256=prepared.prompts_sha256,
        models=model_files(prepared),
        profile=profile.model_dump(mode="json"),
        engines={role: prepared.factory(role).engine_kind for role in prepared.roles},
        versions=versions(),
        texts=tuple(texts),
    )


def _questions(prepared: Prepared) -> Iterator[tuple[Prompt, int]]:
    workload = prepared.profile.workload
    repeats = workload.repeats if prepared.profile.decoding.temperature else 1  # else all of them are equal
    return ((prompt, repeat) for repeat in range(repeats) for prompt in prepared.prompts)


def _text(
    prompt: Prompt, turn: int, repeat: int, request: Request, tokens: tuple[int, ...], columns: dict
) -> TracedText:
    return TracedText(
        prompt_id=prompt.prompt_id,
        category=prompt.category,
        turn=turn,
        repeat=repeat,
        prompt_tokens=len(request.prompt_ids),
        prompt_sha256=conversation.request_sha256(request),
        max_new_tokens=request.max_new_tokens,
        tokens=tokens,
        prompt_ids=request.prompt_ids,
        **columns,
    )


def readings(
    draft: Engine,
    options: Options,
    request: Request,
    tokens: Sequence[int],
    target: Engine | None = None,
    drawn: bool = True,
) -> dict[str, object]:
    """The columns of a traced text: the draft, forced along the target's tokens.

    A wide pass sums in another order than the single steps of a real draft, so where the draft's two best
    tokens are nearly tied a bit may differ; `margin` shows where. Penalties see what a real draft's would: the
    target's own prefix.

    Args:
        tokens: the target's text, at least one.
        target: for the columns that hold its distributions.
        drawn: with a target, whether the rule draws, or is lossy: it then has chances.
    """
    from specbench.speculation.randomness import Purpose, Stream
    from specbench.speculation.sampling import Scorer, soft_probabilities

    scorer = Scorer.of(options, request)
    coins = Stream(request.seed, Purpose.COIN)
    found: dict[str, list[float]] = {"entropy": [], "margin": [], "log_probability": []}
    sparse: dict[str, list] = {"draft_top": [], "target_top": [], "target_rank": []} if target else {}
    agrees, chances = "", []
    judged = _passes(target, request, tokens) if target else None
    for position, logits in _passes(draft, request, tokens):
        context = [*request.prompt_ids, *tokens[:position]]
        following = tokens[position : position + len(logits)]
        penalized = scorer.penalized(logits, context, following)
        judge = scorer.penalized(next(judged)[1], context, following) if judged else None
        if judge is None or not drawn:
            choices = scorer.compared(penalized, len(context)).argmax(-1)
            bits = [mine == theirs for mine, theirs in zip(choices.tolist(), following, strict=True)]
        else:
            choices = penalized.argmax(-1)
            shares = _chances(penalized, judge, options)
            chances += [round(chance, DIGITS) for chance in shares]
            bits = [coins.uniform() < chance for chance in shares]
        if judge is not None:
            sparse["draft_top"] += _top(penalized)
            sparse["target_top"] += _top(judge)
            likelier = judge > judge.gather(1, penalized.argmax(-1, keepdim=True))
            sparse["target_rank"] += likelier.sum(-1).tolist()
        agrees += "".join("01"[bit] for bit in bits)
        rows = soft_probabilities(penalized, options.decoding)
        highest = rows.topk(2).values
        found["entropy"] += _rounded(-rows.xlogy(rows).sum(-1))
        found["margin"] += _rounded(highest[:, 0] - highest[:, 1])
        found["log_probability"] += _rounded(rows.gather(1, choices[:, None])[:, 0].log())
    columns = {key: tuple(column) for key, column in {**found, **sparse}.items()}
    return {"agrees": agrees, "chances": tuple(chances) or None, **columns}


def _passes(engine: Engine, request: Request, tokens: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """Logits at every position of a text: the first position of a pass, and shape (rows, vocabulary)."""
    from specbench.engine.finite import demand_finite

    session = engine.session(len(request.prompt_ids) + len(tokens))
    logits = session.prefill(request.prompt_ids)
    demand_finite(logits, engine.role)
    yield 0, logits
    for start in range(0, len(tokens) - 1, WIDTH):
        logits = session.extend(tokens[start : min(start + WIDTH, len(tokens) - 1)])
        demand_finite(logits, engine.role)
        yield start + 1, logits


def _chances(draft: torch.Tensor, target: torch.Tensor, options: Options) -> list[float]:
    """How likely each position's draft is accepted by a rule that draws or is lossy, given all before it.

    For `block` that is a lower bound: it keeps what `rejection` would, and more.

    Args:
        draft: penalised logits, shape (rows, vocabulary); `target` likewise.
    """
    from specbench.speculation.sampling import probabilities, soft_probabilities

    rule, spec = options.speculative.verification, options.speculative
    q, p = probabilities(draft, options.decoding), probabilities(target, options.decoding)
    if rule == "one_hot":
        return p.gather(1, draft.argmax(-1, keepdim=True))[:, 0].tolist()
    if rule == "rank":
        within = min(spec.rank, target.shape[1])
        return (q * (target >= target.topk(within).values[:, -1:])).sum(-1).tolist()
    if rule == "typical":
        soft = soft_probabilities(target, options.decoding)
        bound = spec.typical_delta * soft.xlogy(soft).sum(-1, keepdim=True).exp()
        return (q * (soft > bound.clamp_max(spec.typical_epsilon))).sum(-1).tolist()
    return p.minimum(q).sum(-1).tolist()


def _top(logits: torch.Tensor) -> list[Top]:
    """The likeliest tokens of each row, at temperature 1; logits of shape (rows, vocabulary)."""
    logs = logits.double().log_softmax(-1)
    highest = logs.topk(min(MOST_TOP, logs.shape[-1]))
    shares = highest.values.exp()
    kept = ((shares.cumsum(-1) - shares < TOP_SHARE) & (shares > 0)).sum(-1).tolist()
    return [
        (tuple(ids[:count]), tuple(round(log, DIGITS) for log in values[:count]))
        for ids, values, count in zip(highest.indices.tolist(), highest.values.tolist(), kept, strict=True)
    ]


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]
