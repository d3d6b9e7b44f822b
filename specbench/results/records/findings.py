"""What was found about a run: divergences from the control, and the precision of its models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Divergence:
    """Where a lossless method first departs from the control on the same prompt, and why.

    Args:
        tokens: the control's id, then the method's; `None` where that text had ended.
        top2_margin: distance between the two highest of the control's compared scores at that position.
        margin: distance between the two tokens in the control's compared scores; `None` at an end, and where a
            token crossed a top-p or top-k cut-off.
        noise: largest difference of any compared score between the control's way of computing that row
            (one token a pass) and the method's (the block it was verified in).
        width: tokens in the pass by which the method decided the position.
        plausible: how far rounding alone moves any compared score there; `None` where nothing depended on it.
        verdict: `tie` where `margin` is at most twice `noise` or a cut-off was crossed, and `noise` is at most
            `plausible`, otherwise `bug`; `None` where the target's passes cannot be repeated, so that neither
            is proven.

    Of the control itself it says where its text is not what a pass over the whole text without a cache says:
    then `tokens` are that pass's id and the control's, and `margin` is their distance in that pass.
    """

    method: str
    prompt_id: str
    turn: int
    repeat: int
    position: int
    tokens: tuple[int | None, int | None]
    top2_margin: float | None = None
    margin: float | None = None
    noise: float | None = None
    width: int | None = None
    verdict: str | None = None
    plausible: float | None = None


@dataclass(frozen=True)
class Recomputation:
    """How the control's texts were held against passes without a cache, off the clock.

    Args:
        texts: how many were; `positions` are the tokens that were compared.
        reason: why it could not be done, where it could not.
    """

    texts: int = 0
    positions: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one kind that share a dtype: how many, how large, and the first one's name."""

    dtype: str
    tensors: int
    bytes: int
    first: str


@dataclass(frozen=True)
class Audit:
    """What precision one role really has, tensor by tensor.

    `cache` and `logits` come from a real forward pass; `stored` is what the weights were kept as on
    disk, which may be narrower than what they are computed in. `vocabulary_size` counts the tokens that the
    model can say, fewer than the target's for a draft with a vocabulary of its own.

    Args:
        wrong: tensors that are not in the declared dtype; empty when all is as declared.
        integers: weights held as integers, by a quantisation.
        widened: tensors that the architecture itself makes in a finer dtype than the declared one.
        narrowed: tensors that the architecture itself makes in a coarser dtype than the declared one.
        quantization: what the profile or the checkpoint's configuration says of it.
        adapters: adapters on disk, and adapter layers in the loaded model.
        tied: names that share one tensor, such as `lm_head.weight = model.embed_tokens.weight`.
        offloaded: tensors that are read from disk or memory each time they are used.
        attention: the implementation, such as `sdpa`; `None` in runs stored before it was recorded.
        ranks: processes that hold the weights together; bytes are those of all.
        logits_problem: why no token can be read from its logits: NaN or infinite ones.
        computed: how a library other than torch computes with these weights, and what of it is unknown.
    """

    role: str
    model: str
    device: str
    declared: str
    vocabulary_size: int
    parameters: tuple[TensorGroup, ...]
    buffers: tuple[TensorGroup, ...]
    logits: str
    cache: tuple[TensorGroup, ...]
    stored: tuple[str, ...]
    problem: str | None = None
    wrong: tuple[TensorGroup, ...] = ()
    integers: tuple[TensorGroup, ...] = ()
    widened: tuple[TensorGroup, ...] = ()
    narrowed: tuple[TensorGroup, ...] = ()
    quantization: str | None = None
    adapters: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    offloaded: tuple[TensorGroup, ...] = ()
    attention: str | None = None
    ranks: int = 1
    logits_problem: str | None = None
    computed: tuple[str, ...] = ()


@dataclass(frozen=True)
class SwitchChange:
    """A process-wide setting of the arithmetic that changed during a run, and who was at work just before."""

    switch: str
    before: str | bool | None
    after: str | bool | None
    method: str | None = None
    prompt_id: str | None = None
