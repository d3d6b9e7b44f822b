"""Blocks that are trees: every token sees its own path, and a path that is kept is a chain."""

import random

import pytest
import torch
from builders import tiny_mistral
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from specbench.cloud import CloudModel, EdgeModel
from specbench.engine import kernels
from specbench.engine.compiled.engine import CompiledEngine
from specbench.engine.session import Block
from specbench.engine.trees import MOST_TOKENS, places
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, EdgeSpec, EngineSpec
from specbench.testing import tiny_llama, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("two_threads")  # rows of a tree are divided among threads

INVARIANT = EngineSpec(kind="compiled", batch_invariant=True)


def engine_of(folder, kind):
    if "int8" in kind:
        engine = INVARIANT if "invariant" in kind else None
        return EdgeModel(EdgeSpec(model=str(folder), quantization="int8"), engine=engine).engine
    dtype = "bfloat16" if "bfloat16" in kind else "float32"
    batch = {"sessions": 4 if "shared" in kind else 1}
    spec = CloudSpec(model=str(folder), device="cpu", dtype=dtype, batch=batch)
    engine = EngineSpec(kind="compiled") if kind.startswith("compiled") else None
    return CloudModel(spec, INVARIANT if "invariant" in kind else engine).engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("trees"), seed=3)


@pytest.fixture(
    scope="module",
    params=[
        "eager",
        "eager int8",
        "invariant",
        "shared invariant",
        pytest.param("eager bfloat16", marks=pytest.mark.slow),
        pytest.param("compiled bfloat16", marks=pytest.mark.slow),
        pytest.param("compiled", marks=pytest.mark.slow),
        pytest.param("int8 invariant", marks=pytest.mark.slow),
    ],
)
def engine(request, folder):
    found = engine_of(folder, request.param)
    assert found.kind == ("eager" if "eager" in request.param else "compiled")
    return found


def demand_equal(engine, found, expected):
    """Bit for bit where rows do not depend on their company; else but for rounding."""
    if getattr(engine, "_batch_invariant", False):
        assert torch.equal(found, expected)
    else:
        scale = 1 if engine.loaded.dtype == torch.float32 else 0.03 * float(expected.abs().max()) / 1e-4
        torch.testing.assert_close(found, expected, rtol=1e-4 * scale, atol=1e-4 * scale)


def tokens(count, seed=0):
    return torch.randint(4, 96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def random_tree(count, seed):
    draw = random.Random(seed)
    return [draw.randrange(max(-1, index - 8), index) for index in range(count)]


def path_to(node, parents):
    return [*path_to(parents[node], parents), node] if node >= 0 else []


def behind(engine, *prompt):
    session = engine.session()
    session.prefill([token for part in prompt for token in part])
    return session


TREES = [(3, [-1]), (3, [-1, 0, 0, -1, 1]), (40, random_tree(13, 1)), (17, random_tree(64, 2)), (5, [-1] * 9)]


@pytest.mark.parametrize(("context", "parents"), TREES)
def test_every_token_of_a_tree_has_the_logits_of_its_path_read_as_a_chain(engine, context, parents):
    prompt, block = tokens(context), tokens(len(parents), seed=5)
    rows = behind(engine, prompt).extend(block, parents)
    chain = behind(engine, prompt)
    for node in range(0, len(parents), 1 + len(parents) // 16):
        path = path_to(node, parents)
        expected = chain.extend([block[index] for index in path])
        demand_equal(engine, rows[path], expected)
        chain.truncate(context)


@pytest.mark.parametrize("path", [[], [0], [0, 1, 4], [3], [0, 2]])
def test_a_path_that_is_kept_is_as_if_nothing_else_had_been_read(engine, path):
    prompt, block = tokens(20), tokens(5, seed=6)
    session = behind(engine, prompt)
    session.extend(block, [-1, 0, 0, -1, 1])
    before = {name: tensor.clone() for name, tensor in session.tensors()}
    session.keep(path)
    assert session.length == session.cached_length == 20 + len(path)
    kept = [*range(20), *(20 + index for index in path)]
    for name, tensor in session.tensors():
        assert torch.equal(tensor, before[name][:, :, kept])
    chain = behind(engine, prompt, [block[index] for index in path])
    for _ in range(2):
        demand_equal(engine, session.extend([7, 8]), chain.extend([7, 8]))
        for one in (session, chain):
            one.truncate(19)


def test_a_tree_behind_a_tree_that_was_kept(engine):
    prompt, block, parents = tokens(9), tokens(6, seed=1), [-1, 0, 0, 1, 2, 4]
    session = behind(engine, prompt)
    text = [*prompt]
    for path in ([0, 2, 4, 5], [0, 1], [0, 2]):
        rows = session.extend(block, parents)
        chosen = [block[index] for index in path]
        demand_equal(engine, rows[path], behind(engine, text).extend(chosen))
        session.keep(path)
        text += chosen
    demand_equal(engine, session.extend([5]), behind(engine, text).extend([5]))


def test_a_tree_may_grow_in_several_passes(engine):
    prompt, block, parents = tokens(30), tokens(30, seed=2), random_tree(30, 3)
    session, whole = behind(engine, prompt), behind(engine, prompt)
    parts = [(0, 4), (4, 5), (5, 16), (16, 30)]
    rows = torch.cat([session.extend(block[begin:end], parents[begin:end]) for begin, end in parts])
    demand_equal(engine, rows, whole.extend(block, parents))
    path = path_to(29, parents)
    for one in (session, whole):
        one.keep(path)
        assert one.length == 30 + len(path)
    demand_equal(engine, session.extend([5, 6]), whole.extend([5, 6]))


def test_parents_of_a_chain_change_nothing(engine):
    prompt, block = tokens(9), tokens(7, seed=1)
    session = behind(engine, prompt)
    rows = session.extend(block, range(-1, 6))
    demand_equal(engine, rows, behind(engine, prompt).extend(block))
    session.keep(range(7))
    assert session.length == 16


@pytest.mark.parametrize("kind", ["eager", "shared invariant"])
def test_trees_and_chains_share_a_pass(folder, kind):
    engine = engine_of(folder, kind)
    asked = [(3, None, 2), (40, [-1, 0, 0, 1, 0], 5), (17, None, 1), (9, random_tree(30, 4), 30)]
    sessions, alone = ([behind(engine, tokens(context)) for context, *_ in asked] for _ in range(2))
    blocks = [
        Block(session, tokens(count, seed=count), parents)
        for session, (_, parents, count) in zip(sessions, asked, strict=True)
    ]
    passes = engine.passes
    found = engine.extend_together(blocks)
    assert engine.passes == passes + 1
    for block, rows, session in zip(blocks, found, alone, strict=True):
        demand_equal(engine, rows, session.extend(block.token_ids, block.parents))
    blocks[1].session.keep([0, 4])
    alone[1].keep([0, 4])
    demand_equal(engine, blocks[1].session.extend([5, 6]), alone[1].extend([5, 6]))


@pytest.mark.parametrize(
    ("parents", "reason"),
    [
        ([0, 0, 0], "token 0 of a tree cannot follow token 0"),
        ([-1, 0, -2], "token 2 of a tree cannot follow token -2"),
        ([-1, 2, 1], "token 1 of a tree cannot follow token 2"),
        ([-1, 0], "2 parents of 3 tokens"),
    ],
)
def test_what_is_no_tree_is_refused_before_anything_is_read(engine, parents, reason):
    session = behind(engine, tokens(5))
    with pytest.raises(ValueError, match=reason):
        session.extend([5, 6, 7], parents)
    assert session.length == session.cached_length == 5
    demand_equal(engine, session.extend([9]), behind(engine, tokens(5)).extend([9]))


def test_a_tree_of_more_tokens_than_a_word_has_bits_is_refused(engine):
    session = behind(engine, tokens(5))
    with pytest.raises(ValueError, match="a tree has 1 to 64 tokens"):
        session.extend([5] * (MOST_TOKENS + 1), [-1] * (MOST_TOKENS + 1))
    session.extend([5] * MOST_TOKENS, [-1] * MOST_TOKENS)
    with pytest.raises(ValueError, match="behind 64 others"):
        session.extend([5], [-1])


def test_behind_a_tree_nothing_is_read_until_a_path_is_kept_or_all_is_dropped(engine):
    session = behind(engine, tokens(5))
    with pytest.raises(ValueError, match="no tree was read last"):
        session.keep([])
    for path in ([1], [0, 2], [0, 0], [4], [-1]):
        session.extend([5, 6, 7, 8], [-1, 0, 1, -1])
        for wrong in (lambda: session.extend([9]), lambda: session.draft_greedy([9], 2)):
            with pytest.raises(ValueError, match="keep a path"):
                wrong()
        with pytest.raises(ValueError, match="within a tree"):
            session.truncate(7)
        with pytest.raises(ValueError, match="is no path of the tree"):
            session.keep(path)
        session.truncate(5)
        with pytest.raises(ValueError, match="no tree was read last"):
            session.keep([0])
    demand_equal(engine, session.extend([9]), behind(engine, tokens(5)).extend([9]))


def test_an_engine_that_reads_trees_has_no_obstacle(engine):
    engine.require_trees()
    assert engine.tree_obstacle is None


SMALL = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
OBSTACLES = {
    "falcon": ({**SMALL, "alibi": True}, "ALiBi"),
    "mamba": ({**SMALL, "state_size": 4}, "keeps a state of its text"),
    "bloom": ({"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "does not take the positions"),
}


@pytest.mark.parametrize("kind", OBSTACLES)
def test_a_model_that_cannot_read_trees_says_why(tmp_path, kind):
    fields, reason = OBSTACLES[kind]
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**fields)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SpecbenchError, match=reason) as caught:
        engine_of(tmp_path, "eager").require_trees()
    assert "specbench run speculative" in caught.value.hint


def test_a_window_is_an_obstacle_to_trees(tmp_path):
    engine = engine_of(tiny_mistral(tmp_path, window=5), "eager")
    assert "DynamicSlidingWindowLayer" in engine.tree_obstacle
    session = engine.session()
    with pytest.raises(ValueError, match="only full attention"):
        session.extend([5, 6], [-1, -1])
    assert session.length == session.cached_length == 0


def test_a_model_that_ignores_the_branches_of_a_tree_is_found_out(folder, monkeypatch):
    engine = engine_of(folder, "eager")
    monkeypatch.setattr("specbench.engine.trees.places", lambda *block: places(*block[:2], None))
    assert "behind a branch its logits differ by" in engine.tree_obstacle


def test_captured_passes_are_chains(folder):
    class Capturing(CompiledEngine):
        _captures = True

    session = Capturing(engine_of(folder, "eager").loaded, 96).session()
    with pytest.raises(ValueError, match="its passes were compiled for chains on a GPU"):
        session.extend([5, 6], [-1, -1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("start", "parents"), [(37, random_tree(64, 7)), (3, random_tree(21, 8)), (0, [-1] * 5)]
)
def test_attention_adds_up_a_path_of_a_tree_in_the_order_of_a_chain(dtype, start, parents):
    ops, width = kernels.load(), len(parents)
    draw = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(1, heads, length, 24, generator=draw).to(dtype)
        for heads, length in ((6, width), (2, 128), (2, 128))
    )
    rows = ops.attend(query, keys, values, torch.tensor(places(start, width, parents)), 0.2)
    for node in range(width):
        path = path_to(node, parents)
        order = [*range(start), *(start + index for index in path)]
        chain = torch.tensor(places(start, len(path), None))
        alone = ops.attend(query[:, :, path], keys[:, :, order], values[:, :, order], chain, 0.2)
        assert torch.equal(rows[0, node], alone[0, -1])
