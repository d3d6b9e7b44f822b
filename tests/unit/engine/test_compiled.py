"""The compiled engine: the same text from fewer milliseconds, on whatever can be compiled."""

from contextlib import contextmanager

import pytest
import torch
from builders import mapped_draft, tiny_mistral
from random_models import ARCHITECTURES, COMPILED, INVARIANT, cloud, random_model, tokens

from specbench.api import Decoding, Options, Request, Speculative
from specbench.cloud import CloudModel, EdgeModel
from specbench.engine import huge_pages, kernels
from specbench.engine.compiled import cuda_graphs, programs
from specbench.engine.compiled.checks import is_invariant
from specbench.engine.compiled.cuda_graphs import CapturedStep
from specbench.engine.compiled.engine import CompiledEngine
from specbench.engine.compiled.joined_products import join_products
from specbench.engine.compiled.layers import CannotCompileError, kept_layers
from specbench.engine.compiled.session import CompiledSession
from specbench.engine.compiled.step import Step
from specbench.engine.finite import NotFiniteError
from specbench.profile import CloudSpec
from specbench.speculation.proposal import Proposal
from specbench.speculation.target import LocalTarget
from specbench.testing import tiny_llama

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads


def small_llama(folder, seed):
    """Wide enough that its products are worth several threads."""
    return tiny_llama(folder, seed, hidden_size=128, intermediate_size=512)


@pytest.fixture(scope="module")
def invariant(tmp_path_factory):
    return cloud(small_llama(tmp_path_factory.mktemp("invariant"), seed=3), INVARIANT).engine


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


@pytest.mark.parametrize("threads", [1, 4, 8, 16])
def test_a_pass_has_the_same_bits_with_more_threads_than_there_are_cores(invariant, threads):
    session = invariant.session()
    session.prefill(tokens(40))
    expected = session.extend(tokens(65, seed=2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for width in (1, 5, 65):
        session.truncate(40)
        assert torch.equal(session.extend(tokens(65, seed=2)[:width]), expected[:width])
    torch.set_num_threads(before)


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


@contextmanager
def damaged_head(engine, value=float("nan")):
    """One weight behind the cache is not a number, so that one logit of every row is none."""
    weight = engine.loaded.model.lm_head.weight
    with torch.no_grad():
        kept = weight[7, 3].clone()
        weight[7, 3] = value
        yield
        weight[7, 3] = kept


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
def test_a_second_start_compiles_nothing(tmp_path, invariant, logged):
    again = cloud(small_llama(tmp_path, seed=4), INVARIANT).engine
    assert again.kind == "compiled"
    assert not any("compiling" in line for line in logged.messages)


def test_passes_read_the_weights_where_they_were_moved(tmp_path, monkeypatch, invariant):
    monkeypatch.setattr(huge_pages, "SMALLEST", 1)
    moved = cloud(small_llama(tmp_path, seed=3), INVARIANT).engine
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
            return ops.products(left, [self.out.weight], [], [], [8]), right  # of a product itself

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


def test_an_engine_whose_widest_pass_has_other_rows_is_seen_through(invariant):
    class Widening(CompiledSession):
        def extend(self, token_ids):
            return super().extend(token_ids) + (len(token_ids) == 65)

    assert is_invariant(CompiledSession(invariant, 80, 80), tokens(12))
    assert not is_invariant(Widening(invariant, 80, 80), tokens(12))


@pytest.mark.slow
def test_a_damaged_program_is_compiled_anew_and_kept(monkeypatch, tmp_path, invariant, logged):
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    path = tmp_path / "compiled" / "k.pt2"
    path.parent.mkdir()
    path.write_bytes(b"PK cut short")
    step = invariant._step({})
    programs.program(step, invariant._example(), invariant._varying(), "k", False)
    assert [line for line in logged.messages if "cannot be loaded, and is made anew" in line]
    assert programs.Program(path, step)


class CapturingEngine(CompiledEngine):
    """The engine of a GPU on the CPU, where torch leaves the capturing out."""

    _captures = True


def test_a_model_that_breaks_the_graph_is_a_reason_not_to_capture(models):
    loaded = cloud(models / "target", engine=None).engine.loaded
    loaded.model.model.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(CannotCompileError):
        CapturingEngine(loaded, 96).compile()


@pytest.fixture
def traced_only(monkeypatch):
    """Torch traces what it is to compile, and runs that: the compiler itself would take a minute."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, mode, **named: compile_(step, backend="eager", **named))


@pytest.mark.slow
def test_nothing_is_captured_any_more_once_an_engine_stands(traced_only, models):
    eager = cloud(models / "target", engine=None).engine
    engine = CapturingEngine(eager.loaded, 96).compile()
    with torch.compiler.set_stance("fail_on_recompile"):
        for budget in (1, 200, 512):
            ours, theirs = engine.session(budget), eager.session()
            for session in (ours, theirs):
                session.prefill(tokens(min(budget, 150)))
            for width in (1, 2, 3, 5, 9, 33, 65):
                expected = theirs.extend(tokens(width, seed=width))
                torch.testing.assert_close(
                    ours.extend(tokens(width, seed=width)), expected, rtol=1e-3, atol=1e-3
                )
                for session in (ours, theirs):
                    session.truncate(session.length - width)
            assert ours.draft_greedy([5, 6], 4) == theirs.draft_greedy([5, 6], 4)
            del ours, session  # what it held is for the next


@pytest.mark.slow
def test_a_captured_pass_sees_a_window_and_goes_back_behind_its_edge(traced_only, tmp_path):
    eager = cloud(tiny_mistral(tmp_path, window=5), engine=None).engine
    ours, text = CapturingEngine(eager.loaded, 96).compile().session(), tokens(40)
    ours.prefill(text[:20])
    for kept, width in ((20, 9), (17, 3), (19, 1), (4, 6)):
        theirs, block = eager.session(), tokens(width, seed=width)
        ours.truncate(kept)
        theirs.prefill(text[:kept])
        torch.testing.assert_close(ours.extend(block), theirs.extend(block), rtol=1e-3, atol=1e-3)
        text[kept : kept + width] = block


@pytest.mark.slow
def test_near_the_end_of_what_a_model_can_place_nothing_is_padded(traced_only, tmp_path):
    eager = cloud(random_model(tmp_path, ARCHITECTURES["gpt2"]), engine=None).engine
    ours, theirs = CapturingEngine(eager.loaded, 96).compile().session(), eager.session()
    prompt, block = tokens(237), tokens(19, seed=1)  # 256 places; nineteen would be padded to 32
    torch.testing.assert_close(ours.prefill(prompt), theirs.prefill(prompt), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.extend(block), theirs.extend(block), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("width", "room", "expected"),
    [
        (5, 512, [(5, 8)]),
        (5, 8, [(5, 8)]),
        (5, 7, [(4, 4), (1, 1)]),
        (300, 512, [(256, 256), (44, 64)]),
        (300, 300, [(256, 256), (32, 32), (8, 8), (4, 4)]),
    ],
)
def test_passes_are_padded_to_widths_that_exist_where_the_padding_fits(width, room, expected):
    assert list(cuda_graphs._passes(width, room, 256)) == expected


@pytest.mark.slow
def test_a_captured_pass_pads_its_width_and_shows_nothing_of_it(models):
    eager = CloudModel(CloudSpec(model=str(models / "target"), device="cpu")).engine
    step = Step(eager.loaded.model, False, True, True, 96, {}, kept_layers(eager)).eval()
    passes, room = CapturedStep(step), CapturedStep.room(40, 16)
    assert room == 512
    slot = [torch.zeros(1, 2, room, 8) for _ in range(4)]
    prompt, block = tokens(8), tokens(3, seed=1)

    def run(ids, start, rows):
        return passes([torch.tensor([ids]), torch.tensor(start), torch.tensor(rows), *slot])

    with torch.no_grad():
        run(prompt, 0, [7])
        logits, choices = run(block, 8, [0, 1, 2])  # as four tokens, of which the last is padding
    session = eager.session()
    session.prefill(prompt)
    expected = session.extend(block)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert choices.tolist() == [expected.argmax(-1).tolist()]
    with torch.no_grad():
        inputs = [torch.tensor([block[:1]]), torch.tensor(8), torch.tensor([0]), *slot]
        drafted = passes.draft(inputs, 4)
    session.truncate(8)
    assert drafted == session.draft_greedy(block[:1], 4)
    with torch.no_grad(), damaged_head(eager):
        assert passes.draft(inputs, 4) == []
