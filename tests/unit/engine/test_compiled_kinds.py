"""Compiled passes of models with windows, soft caps, sinks, experts, latent or shared keys, ALiBi, images."""

import pytest
import torch
from random_models import COMPILED, INVARIANT, cloud
from zoo.building import build

from specbench.cloud import CloudModel, EdgeModel
from specbench.engine.session import Block
from specbench.profile import CloudSpec, EdgeSpec

pytestmark = pytest.mark.usefixtures("two_threads")

WINDOW = 32  # of the zoo's
INVARIANT_KINDS = (
    "bloom", "cohere2", "falcon", "falcon_alibi", "gemma2", "gemma3_text", "gemma4_shared", "gpt_oss",
    "llama4_text", "mistral_sliding", "mixtral", "mpt", "olmo3", "olmoe", "qwen3_moe",
)  # fmt: skip
OTHERS = ("deepseek_v2", "deepseek_v3", "gemma3n_shared")
MULTIMODAL = ("aya_vision", "gemma3", "glm4v", "llava", "qwen2_5_vl", "qwen2_audio", "qwen3_vl", "smolvlm")
BY_DEFAULT = "qwen2_vl"  # text of images, whose positions have three rows


def tokens(count, seed=0):
    return torch.randint(4, 300, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def pair_of(folder, name, engine):
    build(name, folder)
    target = folder / "target"
    found = cloud(target, engine).engine
    assert found.kind == "compiled"
    return found, cloud(target, engine=None).engine


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in (*INVARIANT_KINDS, *MULTIMODAL)]


@pytest.fixture(scope="module", params=[BY_DEFAULT, *SLOW])
def invariant(request, tmp_path_factory):
    """An engine whose rows do not depend on their number, and an eager one of the same model."""
    return pair_of(tmp_path_factory.mktemp(request.param), request.param, INVARIANT)


def demand_own_logits(compiled, eager):
    """Reads over the window's edge, rolls back behind it and before it, and goes on with other tokens."""
    ours, text = compiled.session(), tokens(3 * WINDOW)
    close(ours.prefill(text[:20]), eager.session().prefill(text[:20]))
    for kept, width in ((20, 1), (21, 30), (51, 7), (40, 5), (45, 40), (20, 3)):
        ours.truncate(kept)
        block, theirs = tokens(width, seed=width), eager.session()
        theirs.prefill(text[:kept])
        close(ours.extend(block), theirs.extend(block))
        text[kept : kept + width] = block


def test_logits_are_the_models_own_on_both_sides_of_a_windows_edge(invariant):
    demand_own_logits(*invariant)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_model_whose_rows_may_depend_on_their_number_has_its_own_logits(tmp_path, name):
    demand_own_logits(*pair_of(tmp_path, name, COMPILED))


@pytest.mark.parametrize("context", [5, 25, 31, 60])
def test_every_row_has_the_bits_of_a_single_step(invariant, context):
    engine, _ = invariant
    single, wide = engine.session(), engine.session()
    block = tokens(65, seed=2)
    for session in (single, wide):
        session.prefill(tokens(context))
    rows = torch.cat([single.extend([token]) for token in block])
    for width in (2, 5, 17, 65):
        wide.truncate(context)
        assert torch.equal(wide.extend(block[:width]), rows[:width])


@pytest.mark.parametrize("context", [10, 28, 50])
def test_every_token_of_a_tree_has_the_bits_of_its_path(invariant, context):
    engine, _ = invariant
    if engine.tree_obstacle:
        pytest.skip(engine.tree_obstacle)
    parents = [-1, 0, 0, -1, 1, 4, 5, 5, 3, 8]
    block, tree, chain = tokens(len(parents), seed=5), engine.session(), engine.session()
    for session in (tree, chain):
        session.prefill(tokens(context))
    rows, path = tree.extend(block, parents), [0, 1, 4, 5, 7]
    chosen = [block[index] for index in path]
    assert torch.equal(rows[path], chain.extend(chosen))
    tree.keep(path)
    assert torch.equal(tree.extend([9, 8]), chain.extend([9, 8]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_mixture_with_quantised_experts_has_the_logits_of_eager_passes_and_the_bits_of_single_steps(
    tmp_path, kind
):
    build("mixtral", tmp_path)
    spec = EdgeSpec(model=str(tmp_path / "target"), quantization=kind)
    compiled, eager = EdgeModel(spec, engine=INVARIANT).engine, EdgeModel(spec).engine
    assert compiled.kind == "compiled"
    demand_own_logits(compiled, eager)
    single, wide = compiled.session(), compiled.session()
    for session in (single, wide):
        session.prefill(tokens(25))
    block = tokens(65, seed=2)
    rows = torch.cat([single.extend([token]) for token in block])
    assert torch.equal(wide.extend(block), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bloom", "falcon_alibi", "gemma4_shared", "gpt_oss", "mistral_sliding"])
def test_texts_that_share_passes_have_the_logits_of_passes_of_their_own(tmp_path, name):
    build(name, tmp_path)
    spec = CloudSpec(model=str(tmp_path / "target"), device="cpu", batch={"sessions": 3})
    shared, eager = CloudModel(spec, COMPILED).engine, cloud(tmp_path / "target", engine=None).engine
    assert shared.kind == "compiled"
    asked = [(40, 3), (5, 1), (70, 6)]
    sessions, alone = [shared.session() for _ in asked], [eager.session() for _ in asked]
    blocks = []
    for (context, width), *both in zip(asked, sessions, alone, strict=True):
        for session in both:
            session.prefill(tokens(context, seed=context))
        blocks.append(Block(both[0], tokens(width, seed=width)))
    for block, rows, theirs in zip(blocks, shared.extend_together(blocks), alone, strict=True):
        close(rows, theirs.extend(block.token_ids))
