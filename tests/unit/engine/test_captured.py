"""Passes captured on a GPU: what is captured, padded and refused; traced alone on the CPU."""

import pytest
import torch
from compiling import (
    ARCHITECTURES,
    cloud,
    damaged_head,
    random_model,
    tokens,
)

from specbench.config import CloudSpec
from specbench.decoding import captured
from specbench.decoding.artefacts import CannotCompileError
from specbench.decoding.captured import CapturedStep
from specbench.decoding.compiled import CompiledEngine
from specbench.decoding.step import Step
from specbench.factories import CloudModel

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads


class CapturingEngine(CompiledEngine):
    """The engine of a GPU on the CPU, where torch leaves the capturing out."""

    _captures = True


def test_a_model_that_breaks_the_graph_is_a_reason_not_to_capture(models):
    loaded = cloud(models / "target", engine=None).engine.loaded
    loaded.model.model.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(CannotCompileError):
        CapturingEngine(loaded, 96, say=lambda line: None)


@pytest.fixture
def traced_only(monkeypatch):
    """Torch traces what it is to compile, and runs that: the compiler itself would take a minute."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, mode, **named: compile_(step, backend="eager", **named))


def test_nothing_is_captured_any_more_once_an_engine_stands(traced_only, models):
    eager = cloud(models / "target", engine=None).engine
    engine = CapturingEngine(eager.loaded, 96, say=lambda line: None)
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


def test_near_the_end_of_what_a_model_can_place_nothing_is_padded(traced_only, tmp_path):
    eager = cloud(random_model(tmp_path, ARCHITECTURES["gpt2"]), engine=None).engine
    ours, theirs = CapturingEngine(eager.loaded, 96, say=lambda line: None).session(), eager.session()
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
    assert list(captured._passes(width, room, 256)) == expected


def test_a_captured_pass_pads_its_width_and_shows_nothing_of_it(models):
    eager = CloudModel(CloudSpec(model=str(models / "target"), device="cpu")).engine
    step = Step(eager.loaded.model, False, True, True, 96, {}).eval()
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
