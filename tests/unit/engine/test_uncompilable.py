"""What cannot be compiled runs eagerly and says why."""

import pytest
import torch
from builders import tiny_mistral
from compiling import (
    COMPILED,
    FULL,
    INVARIANT,
    SINKS,
    WIDE,
    cloud,
    random_model,
)
from transformers import (
    Gemma2Config,
    GptOssConfig,
    MambaConfig,
)

from specbench.decoding import kernels
from specbench.decoding.artefacts import CannotCompileError
from specbench.decoding.compiled import CompiledEngine
from specbench.errors import SpecbenchError

pytestmark = pytest.mark.usefixtures("two_threads")  # shares of a product are divided among threads


@pytest.fixture
def uncompilable(request, tmp_path):
    if request.param == "sliding window":
        return tiny_mistral(tmp_path, window=5)
    return random_model(tmp_path, MambaConfig(vocab_size=96, hidden_size=32, state_size=4, num_hidden_layers=2))


@pytest.mark.slow
@pytest.mark.parametrize("uncompilable", ["sliding window", "recurrent state"], indirect=True)
def test_what_cannot_be_compiled_runs_eagerly_and_says_so(uncompilable):
    lines = []
    assert cloud(uncompilable, COMPILED, lines).engine.kind == "eager"
    assert any("runs eagerly, for it cannot be compiled: " in line for line in lines)
    with pytest.raises(SpecbenchError, match="cannot be batch-invariant"):
        _ = cloud(uncompilable, INVARIANT).engine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "extra"),
    [
        (Gemma2Config(**WIDE, **FULL, num_key_value_heads=1, head_dim=16), "softcap"),
        (GptOssConfig(**WIDE, **FULL, **SINKS), "s_aux"),
    ],
)  # fmt: skip
def test_attention_with_what_the_kernel_does_not_know_runs_eagerly_and_says_why(tmp_path, config, extra):
    lines, folder = [], random_model(tmp_path, config)
    assert cloud(folder, COMPILED, lines).engine.kind == "eager"
    (line,) = (line for line in lines if "runs eagerly" in line)
    assert f"its attention uses {extra}" in line
    with pytest.raises(SpecbenchError, match=extra):
        _ = cloud(folder, INVARIANT).engine


def raises_outside_export(width):
    """A hook that lets nobody read so many tokens, but does not show while a pass is exported."""

    def hook(module, args, named):
        if not torch.compiler.is_compiling() and named["input_ids"].shape[1] == width:
            raise RuntimeError("this many are not served\n(and much more)")

    return hook


@pytest.mark.parametrize("width", [1, 5], ids=["looking at the cache", "comparing logits"])
def test_an_error_of_the_models_own_code_is_a_reason_not_to_compile(models, width):
    loaded = cloud(models / "target", engine=None).engine.loaded
    loaded.model.register_forward_pre_hook(raises_outside_export(width), with_kwargs=True)
    with pytest.raises(CannotCompileError, match=r"^this many are not served$"):
        CompiledEngine(loaded, 96, say=lambda line: None)


def test_a_cache_that_cannot_be_written_is_a_reason_not_to_compile(monkeypatch, models, tmp_path):
    kernels.load()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "file"))
    lines = []
    assert cloud(models / "target", COMPILED, lines).engine.kind == "eager"
    assert any("Not a directory" in line for line in lines)
    with pytest.raises(SpecbenchError, match=r"cannot be batch-invariant: .*Not a directory"):
        _ = cloud(models / "target", INVARIANT).engine
