"""The compiled engine: the same text from fewer milliseconds, on whatever can be compiled."""

import pytest
import torch
from builders import mapped_draft
from compiling import (
    ARCHITECTURES,
    COMPILED,
    INVARIANT,
    WIDE,
    cloud,
    damaged_head,
    random_model,
    tokens,
)
from transformers import (
    MixtralConfig,
)

from specbench.api import Decoding, Options, Request, Speculative
from specbench.config import CloudSpec
from specbench.decoding import artefacts, kernels, pages
from specbench.decoding.artefacts import CannotCompileError
from specbench.decoding.compiled import CompiledSession, _is_invariant
from specbench.decoding.finite import NotFiniteError
from specbench.decoding.proposal import Proposal
from specbench.decoding.target import LocalTarget
from specbench.decoding.together import join_products
from specbench.errors import SpecbenchError
from specbench.factories import CloudModel, EdgeModel
from specbench.testing import tiny_llama

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_compiles_and_gives_its_own_logits(tmp_path, name):
    folder = random_model(tmp_path, ARCHITECTURES[name])
    compiled, eager = cloud(folder).engine, cloud(folder, engine=None).engine
    assert compiled.kind == "compiled"
    ours, theirs = compiled.session(), eager.session()
    prompt, more = tokens(30), tokens(9, seed=1)
    torch.testing.assert_close(ours.prefill(prompt), theirs.prefill(prompt), rtol=1e-3, atol=1e-3)
    for part in (more[:1], more[1:6], more[6:]):
        torch.testing.assert_close(ours.extend(part), theirs.extend(part), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def invariant(tmp_path_factory):
    return cloud(tiny_llama(tmp_path_factory.mktemp("invariant"), seed=3), INVARIANT).engine


@pytest.mark.parametrize("context", [1, 2, 15, 16, 17, 63, 130, 300])
def test_every_row_of_a_wide_pass_has_the_bits_of_a_single_step(invariant, context):
    single, wide = invariant.session(), invariant.session()
    prompt, block = tokens(context), tokens(65, seed=2)
    single.prefill(prompt)
    wide.prefill(prompt)
    rows = torch.cat([single.extend([token]) for token in block])
    for width in (*range(1, 10), 33, 64, 65):
        wide.truncate(context)
        assert torch.equal(wide.extend(block[:width]), rows[:width])


def test_drafting_in_the_engine_gives_the_tokens_of_single_steps(invariant):
    inside, outside = invariant.session(), invariant.session()
    for session in (inside, outside):
        session.prefill(tokens(20))
    drafted, unread = [], [30, 31]
    while len(drafted) < 6:
        unread = outside.extend(unread)[-1:].argmax(-1).tolist()
        drafted += unread
    assert inside.draft_greedy([30, 31], 6) == drafted
    assert inside.length == outside.length == 27
    assert inside.draft_greedy([40], 0) == []


def test_a_draft_in_the_engine_ends_where_a_logit_is_not_a_number(invariant):
    session = invariant.session()
    session.prefill(tokens(20))
    with (
        damaged_head(invariant),
        pytest.raises(NotFiniteError, match="the cloud model's logits are not finite"),
    ):
        session.draft_greedy([30, 31], 6)


def test_a_compiled_verification_refuses_logits_that_are_no_numbers(invariant):
    target = LocalTarget(invariant, Options(Decoding(), Speculative()))
    target.begin(Request(tuple(tokens(20)), 12, frozenset()))
    target.verify(Proposal((5, 6)))
    with damaged_head(invariant), pytest.raises(NotFiniteError, match="the cloud model's"):
        target.verify(Proposal((5, 6)))


@pytest.mark.slow
def test_a_draft_with_a_vocabulary_of_its_own_drafts_the_targets_ids(tmp_path, models):
    target = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    edge = mapped_draft(tmp_path, target, size=30)
    compiled = EdgeModel(edge.spec, engine=COMPILED).engine
    assert compiled.kind == "compiled"
    ours, theirs = compiled.session(), edge.engine.session()
    prompt = tokens(12)
    torch.testing.assert_close(ours.prefill(prompt), theirs.prefill(prompt), rtol=1e-3, atol=1e-3)
    assert ours.draft_greedy([20, 21], 5) == theirs.draft_greedy([20, 21], 5)


def test_what_a_padded_cache_has_beyond_what_was_asked_for_is_not_filled(invariant):
    session = CompiledSession(invariant, 64, 20)
    session.prefill(tokens(18))
    with pytest.raises(ValueError, match="a cache for 20 tokens holds 18 and cannot take 3 more"):
        session.extend([5, 6, 7])


def test_what_does_not_fit_is_refused_before_anything_is_written(invariant):
    session = invariant.session(16)
    room = 16 + 65  # one refused draft fits behind what was asked for
    session.prefill(tokens(room - 2))
    before = [tensor.clone() for _, tensor in session.tensors()]
    with pytest.raises(ValueError, match="a cache for 81 tokens holds 79 and cannot take 3 more"):
        session.extend([5, 6, 7])
    with pytest.raises(ValueError, match="cannot take 3 more"):
        session.draft_greedy([5], 3)
    assert session.length == room - 2
    assert all(torch.equal(tensor, old) for (_, tensor), old in zip(session.tensors(), before, strict=True))


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path, invariant):
    lines = []
    again = cloud(tiny_llama(tmp_path, seed=4), INVARIANT, lines).engine
    assert again.kind == "compiled"
    assert not any("compiling" in line for line in lines)


def test_passes_read_the_weights_where_they_were_moved(tmp_path, monkeypatch, invariant):
    monkeypatch.setattr(pages, "SMALLEST", 1)
    moved = cloud(tiny_llama(tmp_path, seed=3), INVARIANT).engine
    places = sorted(part.data_ptr() for part in moved.loaded.model.parameters())
    assert places[-1] - places[0] < 2 * sum(part.nbytes for part in moved.loaded.model.parameters())
    prompt = tokens(20)
    assert torch.equal(moved.session().prefill(prompt), invariant.session().prefill(prompt))
    with torch.no_grad():
        moved.loaded.model.lm_head.weight.zero_()  # the pass has no copy of its own
    assert not moved.session().prefill(prompt).any()


def test_the_model_itself_stays_as_it_was(invariant):
    model = invariant.loaded.model
    assert model.config._attn_implementation == "sdpa"
    assert model(torch.tensor([[5, 6, 7]])).logits.shape == (1, 3, 96)


@pytest.mark.slow
def test_products_of_one_input_are_one_call_and_the_others_stay(tmp_path):
    ops = kernels.load()

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.out = (torch.nn.Linear(32, 32 * n, bias=n == 2) for n in (1, 2, 1))

        def forward(self, x):
            left = ops.products(x, [self.left.weight], [], [], [4])
            right = ops.products(x, [self.right.weight], [], [], [8]) + self.right.bias
            return ops.products(left.relu(), [self.out.weight], [], [], [8]), right

    block, x = Block(), torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(1))
    exported = torch.export.export(block, (x,), dynamic_shapes=({1: torch.export.Dim("n", min=1, max=64)},))
    join_products(exported)
    counted = [len(node.args[1]) for node in exported.graph.nodes if node.target is ops.products.default]
    assert counted == [2, 1]
    joined = exported.module()
    for width in (1, 3, 6, 12):  # six: within what one of them allows, and beyond the other
        x = torch.randn(1, width, 32, generator=torch.Generator().manual_seed(width))
        for ours, expected in zip(joined(x), block(x), strict=True):
            assert torch.equal(ours, expected) if width <= 4 else torch.allclose(ours, expected, atol=1e-5)
            assert ours.is_contiguous()


@pytest.mark.slow
def test_products_of_torchs_own_are_not_called_invariant(tmp_path):
    with pytest.raises(
        SpecbenchError, match="its addmm is no kernel of ours, and its rows may depend on their number"
    ):
        _ = cloud(random_model(tmp_path, ARCHITECTURES["gpt2"]), INVARIANT).engine


def test_an_engine_whose_widest_pass_has_other_rows_is_seen_through(invariant):
    class Widening(CompiledSession):
        def extend(self, token_ids):
            return super().extend(token_ids) + (len(token_ids) == 65)

    assert _is_invariant(CompiledSession(invariant, 80, 80), tokens(12))
    assert not _is_invariant(Widening(invariant, 80, 80), tokens(12))


@pytest.mark.slow
def test_an_operator_that_is_not_known_to_compute_row_by_row_is_not_called_invariant(tmp_path):
    folder = random_model(tmp_path, MixtralConfig(**WIDE, num_key_value_heads=2, num_local_experts=2))
    with pytest.raises(SpecbenchError, match="is no kernel of ours, and its rows may depend on their number"):
        _ = cloud(folder, INVARIANT).engine


@pytest.mark.parametrize("product", [torch.mv, lambda matrix, vector: torch.addmv(vector, matrix, vector)])
def test_a_product_with_one_vector_is_not_called_invariant_either(product):
    class Block(torch.nn.Module):
        def forward(self, x):
            return product(x, x[0])

    exported = torch.export.export(Block(), (torch.ones(4, 4),))
    with pytest.raises(CannotCompileError, match="rows may depend"):
        artefacts._demand_invariant(exported.graph)


@pytest.mark.slow
def test_a_damaged_program_is_compiled_anew_and_kept(monkeypatch, tmp_path, invariant):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    path = tmp_path / "compiled" / "k.pt2"
    path.parent.mkdir()
    path.write_bytes(b"PK cut short")
    lines, step = [], invariant._step({})
    artefacts.program(step, invariant._example(), invariant._varying(), "k", False, lines.append)
    assert [line for line in lines if "cannot be loaded, and is made anew" in line]
    assert artefacts.Program(path, step)
