"""Model folders: what is loaded, what is refused, and what memory it takes."""

import json
import shutil

import pytest
import torch
from builders import PLAIN
from safetensors.torch import load_file, save_file
from specbench.plugins.speculative import SpeculativeDecoding
from transformers import (
    Qwen2_5OmniConfig,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from specbench.api import CloudModel, EdgeModel, Options, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.models import files, vocabulary
from specbench.models.storage import stored_as
from specbench.profile import CloudSpec, Decoding, EdgeSpec, ModelSpec, Speculative
from specbench.testing import answer, tiny_llama, tiny_tokenizer, tokens_of


@pytest.fixture
def folder(models, tmp_path):
    """A copy of the target that a test may damage."""
    return shutil.copytree(models / "target", tmp_path / "copy")


def load(folder, **fields):
    spec = CloudSpec(model=str(folder), **{"device": "cpu", **fields})
    return CloudModel(spec).engine


def refused(folder, **fields):
    with pytest.raises(SpecbenchError) as caught:
        load(folder, **fields)
    assert caught.value.exit_code == ExitCode.MODEL
    assert "\n" not in caught.value.message
    return caught.value


def test_a_factory_knows_its_dtype_without_loading_anything():
    from specbench import CloudModel, EdgeModel

    for factory in (CloudModel(dtype="float32"), EdgeModel(dtype="float32")):
        assert factory.dtype == "float32"
        assert not factory.is_loaded


def test_a_factory_refuses_a_dtype_that_does_not_exist():
    with pytest.raises(SpecbenchError, match="'float33' is not one of") as caught:
        CloudModel(dtype="float33")
    assert caught.value.hint == "did you mean 'float32'?"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_weights_come_in_the_declared_dtype_whatever_is_stored(folder, dtype):
    model = load(folder, dtype=dtype).loaded.model
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_layers_keeps_the_first_ones(folder):
    engine = load(folder, layers=1)
    assert len(engine.loaded.model.model.layers) == 1
    weights = load_file(folder / "model.safetensors")
    loaded = engine.loaded.model.model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(loaded, weights["model.layers.0.mlp.up_proj.weight"])


def test_more_layers_than_there_are_is_an_error(folder):
    assert "has 2 layers, fewer than layers: 3" in refused(folder, layers=3).message


def test_hub_sampling_defaults_are_dropped_and_stop_ids_kept(folder):
    settings = {"eos_token_id": [1, 9], "repetition_penalty": 1.5, "do_sample": True, "temperature": 0.3}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    cloud = CloudModel(CloudSpec(model=str(folder), device="cpu"))
    assert cloud.stop_ids == {1, 9}
    assert cloud.engine.loaded.model.generation_config.repetition_penalty in (None, 1.0)


def test_model_generate_ignores_hub_sampling_defaults(models, folder):
    settings = {"eos_token_id": 1, "repetition_penalty": 1.9, "do_sample": True, "temperature": 5.0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    request = Request(tuple(range(20, 40)), 12, frozenset())
    texts = [
        [
            commit.tokens
            for commit in CloudModel(CloudSpec(model=str(path), device="cpu")).generate(request, Decoding())
        ]
        for path in (folder, models / "target")
    ]
    assert texts[0] == texts[1]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere").message


def test_a_folder_without_a_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert "has no config.json" in refused(folder).message


def test_a_folder_without_a_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refused(folder).message


def test_a_damaged_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text('{"model": 3}')
    assert "tokenizer" in refused(folder).message


def test_a_truncated_weights_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    error = refused(folder)
    assert "is damaged: it has" in error.message
    assert "fetch the model again" in error.hint


def test_a_weights_file_that_is_something_else_is_refused(folder):
    (folder / "model.safetensors").write_bytes(b"no weights at all, but long enough to have a header")
    assert "is damaged" in refused(folder).message


def test_a_missing_tensor_is_refused_and_never_filled_with_random_numbers(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, path, metadata={"format": "pt"})
    assert "lacks the tensor model.layers.1.mlp.up_proj.weight" in refused(folder).message


def test_pickled_weights_are_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "holds pickled weights (pytorch_model.bin)" in refused(folder).message


def test_remote_code_is_refused_unless_the_profile_allows_it(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    assert "needs to run its own Python code" in refused(folder).message
    assert not (folder / "ran").exists()


def test_a_hub_model_that_cannot_be_reached_says_how_to_go_on(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refused("no-such-owner/no-such-model")
    assert "cannot be fetched from the hub" in error.message
    assert "a local folder" in error.hint


def test_a_cuda_device_that_is_not_there_is_refused(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(SpecbenchError, match="device cuda:1 does not exist on this machine"):
        load(folder, device="cuda:1")


def test_vocabularies_that_differ_are_refused_and_the_first_difference_named():
    cloud, edge = tiny_tokenizer(), tiny_tokenizer(vocabulary_size=95)
    with pytest.raises(
        SpecbenchError, match=r"\(95 and 96 tokens\): '~95' is absent on the edge and 95"
    ) as caught:
        vocabulary.demand_equal(edge, cloud)
    assert "edge.vocab_map" in caught.value.hint


def test_embeddings_padded_to_different_sizes_are_fine_and_padding_is_never_drafted(tmp_path):
    tiny_llama(tmp_path / "target", seed=5)
    tiny_llama(tmp_path / "draft", seed=6, vocab_size=256)
    edge = EdgeModel(EdgeSpec(model=str(tmp_path / "draft")))
    cloud = CloudModel(CloudSpec(model=str(tmp_path / "target"), device="cpu"))
    vocabulary.demand_equal(edge.tokenizer, cloud.tokenizer)
    drafter = edge.drafter(PLAIN)
    for seed in range(20, 60):
        drafter.begin(Request((seed, seed + 1), 8, frozenset()))
        drafter.commit([30], 0)
        assert max(drafter.propose(8).tokens) < 96


def test_a_memory_limit_for_a_device_that_is_not_there_is_refused(models):
    with pytest.raises(SpecbenchError, match="names device '97', which this machine does not have"):
        load(models / "target", device="auto", device_map="auto", max_memory={"97": "1GiB"})


def test_stored_dtypes_are_read_from_the_files(folder):
    assert stored_as(folder) == ("F32 x21",)


def test_a_hub_spec_is_not_mistaken_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "name").write_text("a file")
    with pytest.raises(SpecbenchError, match="is a file, and no GGUF file"):
        files.locate(ModelSpec(model="name"), weights=False)


def test_an_omni_model_speculates_through_its_thinker(tmp_path):
    """A tiny random Qwen2.5-Omni folder: the Thinker is found, loaded and rolled back."""
    text = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    audio = {
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "d_model": 32,
        "encoder_ffn_dim": 32,
        "output_dim": 32,
    }
    thinker = Qwen2_5OmniThinkerConfig(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        vision_start_token_id=90,
        audio_start_token_id=91,
    )
    torch.manual_seed(1)
    model = Qwen2_5OmniThinkerForConditionalGeneration(thinker)
    weights = {f"thinker.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    weights.setdefault("thinker.lm_head.weight", model.lm_head.weight.detach().clone())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = Qwen2_5OmniConfig(thinker_config=thinker.to_dict(), enable_audio_output=False)
    config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    cloud = CloudModel(CloudSpec(model=str(tmp_path), device="cpu", dtype="float64"))
    edge = EdgeModel(EdgeSpec(model=str(tmp_path), layers=1, dtype="float64"))
    request = Request(tuple(range(20, 40)), 20, frozenset())
    rounds = answer(SpeculativeDecoding().open(edge, cloud, Options(Decoding(), Speculative())), request)
    assert tokens_of(rounds) == [
        token for commit in cloud.generate(request, Decoding()) for token in commit.tokens
    ]
