"""What can be compiled, and what cannot and why."""

import pytest
import torch
from random_models import ARCHITECTURES, COMPILED, INVARIANT, cloud, random_model, tokens
from transformers import MambaConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from specbench.engine import kernels
from specbench.engine.compiled import attention, programs
from specbench.engine.compiled.engine import CompiledEngine
from specbench.engine.compiled.layers import CannotCompileError
from specbench.errors import SpecbenchError

pytestmark = pytest.mark.usefixtures("two_threads")


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


@pytest.mark.slow
def test_what_cannot_be_compiled_runs_eagerly_and_says_so(tmp_path, logged):
    config = MambaConfig(vocab_size=96, hidden_size=32, state_size=4, num_hidden_layers=2)
    folder = random_model(tmp_path, config)
    assert cloud(folder, COMPILED).engine.kind == "eager"
    assert any("runs eagerly, for it cannot be compiled: " in line for line in logged.messages)
    with pytest.raises(SpecbenchError, match="cannot be batch-invariant"):
        _ = cloud(folder, INVARIANT).engine


@pytest.mark.parametrize("name", attention.UNKNOWN)
def test_attention_with_what_the_kernel_does_not_know_is_refused_by_name(models, name):
    model = cloud(models / "target", engine=None).engine.loaded.model
    states = [torch.ones(1, 2, 3, 8)] * 3
    with attention.attending(model, lambda *_: states[0], has_limits=False):
        attend = ALL_ATTENTION_FUNCTIONS[attention.FULL]
        assert attend(model, *states, None)[0] is states[0]
        with pytest.raises(NotImplementedError, match=f"its attention uses {name}"):
            attend(model, *states, None, **{name: states[0]})
        with pytest.raises(NotImplementedError, match="its attention uses a mask of its own"):
            attend(model, *states, torch.ones(3, 3))


@pytest.mark.slow
def test_products_of_torchs_own_are_not_called_invariant(tmp_path):
    with pytest.raises(SpecbenchError, match="torch's addmm may compute a row differently beside other rows"):
        _ = cloud(random_model(tmp_path, ARCHITECTURES["gpt2"]), INVARIANT).engine


@pytest.mark.parametrize("product", [torch.mv, lambda matrix, vector: torch.addmv(vector, matrix, vector)])
def test_a_product_with_one_vector_is_not_called_invariant_either(product):
    class Block(torch.nn.Module):
        def forward(self, x):
            return product(x, x[0])

    exported = torch.export.export(Block(), (torch.ones(4, 4),))
    with pytest.raises(CannotCompileError, match="beside other rows"):
        programs._demand_invariant(exported.graph)


def raises_outside_export(width):
    """A hook that lets nobody read so many tokens, but does not show while a pass is exported."""

    def hook(module, args, named):
        if not torch.compiler.is_compiling() and named["input_ids"].shape[1] == width:
            raise RuntimeError("this many are not served\n(and much more)")

    return hook


@pytest.mark.parametrize(
    "width",
    [
        pytest.param(1, id="looking at the cache"),
        pytest.param(5, id="comparing logits", marks=pytest.mark.slow),  # behind a compilation
    ],
)
def test_an_error_of_the_models_own_code_is_a_reason_not_to_compile(models, width):
    loaded = cloud(models / "target", engine=None).engine.loaded
    loaded.model.register_forward_pre_hook(raises_outside_export(width), with_kwargs=True)
    with pytest.raises(CannotCompileError, match=r"^this many are not served$"):
        CompiledEngine(loaded, 96).compile()


def test_a_cache_that_cannot_be_written_is_a_reason_not_to_compile(monkeypatch, models, tmp_path, logged):
    kernels.load()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "file"))
    assert cloud(models / "target", COMPILED).engine.kind == "eager"
    assert any("Not a directory" in line for line in logged.messages)
    with pytest.raises(SpecbenchError, match=r"cannot be batch-invariant: .*Not a directory"):
        _ = cloud(models / "target", INVARIANT).engine
