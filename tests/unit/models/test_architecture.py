"""Kinds of models: multimodal ones run by their text path, and what is no decoder of text is named."""

import json

import pytest
import torch
import transformers
from builders import PLAIN
from specbench.plugins.speculative import SpeculativeDecoding
from transformers import CONFIG_MAPPING

from specbench.api import CloudModel, EdgeModel, Request
from specbench.errors import ExitCode, SpecbenchError
from specbench.models.architecture import meta_model
from specbench.profile import CloudSpec, EdgeSpec
from specbench.testing import answer, tiny_tokenizer, tokens_of

TEXT = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "head_dim": 8,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
PATCHES = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
MULTIMODAL = {
    "llava": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": VISION, "image_token_index": 90},
    "qwen2_5_vl": {
        "text_config": TEXT | {"model_type": "qwen2_5_vl_text", "rope_parameters": SECTIONS},
        "vision_config": PATCHES | {"fullatt_block_indexes": [0]},
        "image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93,
    },
    "mistral3": {
        "text_config": TEXT | {"model_type": "mistral"},
        "vision_config": VISION | {"model_type": "pixtral", "head_dim": 8},
        "image_token_index": 90,
    },
    "qwen2_audio": {
        "text_config": TEXT | {"model_type": "qwen2"},
        "audio_config": {
            "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
        },
        "audio_token_index": 90,
    },
    "llama4": {  # transformers has a class for its text alone
        "text_config": TEXT | {
            "model_type": "llama4_text", "num_local_experts": 2, "intermediate_size_mlp": 64,
            "layer_types": ["full_attention"] * 2, "no_rope_layers": [1, 0], "moe_layers": [1],
        },
        "vision_config": VISION | {
            "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
        },
    },
}  # fmt: skip
SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "d_kv": 8, "vocab_size": 96}
SMALL_BERT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 96,
}  # fmt: skip
OTHERS = {
    "t5": ("T5ForConditionalGeneration", SMALL, "an encoder-decoder model"),
    "bart": (
        "BartForConditionalGeneration",
        {
            "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 96,
        },
        "an encoder-decoder model",
    ),
    "xlnet": ("XLNetLMHeadModel", {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16, "vocab_size": 96},
              "a bidirectional model"),
    "bert": ("BertForMaskedLM", SMALL_BERT, "a bidirectional model"),
    "paligemma": (
        "PaliGemmaForConditionalGeneration",
        {
            "text_config": TEXT | {"model_type": "gemma"}, "projection_dim": 32,
            "vision_config": VISION | {"model_type": "siglip_vision_model"}, "image_token_index": 90,
        },
        "a prefix model, which reads its prompt in both directions",
    ),
    "vit": ("ViTModel", {key: VISION[key] for key in VISION}, "no model that writes text"),
}  # fmt: skip


def written(folder, cls, config):
    torch.manual_seed(3)
    getattr(transformers, cls)._from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", MULTIMODAL)
def test_a_multimodal_model_speculates_through_its_text_path(tmp_path, kind):
    config = CONFIG_MAPPING[kind](**MULTIMODAL[kind])
    cls = transformers.AutoModelForImageTextToText._model_mapping.get(type(config), None)
    cls = cls or transformers.AutoModelForMultimodalLM._model_mapping[type(config)]
    folder = str(written(tmp_path, cls.__name__, config))
    cloud = CloudModel(CloudSpec(model=folder, device="cpu", dtype="float64"))
    edge = EdgeModel(EdgeSpec(model=folder, layers=1, dtype="float64"))
    if kind == "llama4":  # torch has no grouped product in float64, and no experts in the first layer
        cloud = CloudModel(CloudSpec(model=folder, device="cpu", dtype="float64", layers=1))
    prompt = tuple(range(20, 40))
    found = tokens_of(answer(SpeculativeDecoding().open(edge, cloud, PLAIN), Request(prompt, 12, frozenset())))
    model, ids = cloud.engine.loaded.model, list(prompt)
    with torch.inference_mode():
        for _ in range(12):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert found == ids[len(prompt) :]


def test_check_dtype_knows_a_multimodal_model(specbench, profile, tmp_path):
    config = CONFIG_MAPPING["llava"](**MULTIMODAL["llava"])
    where = {"model": str(written(tmp_path / "llava", "LlavaForConditionalGeneration", config))}
    done = specbench("check-dtype", "--load", "--profile", profile(edge=where, cloud=where))
    assert done.code == 0, done.err


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_decoder_of_text_is_named_before_it_is_read(specbench, profile, tmp_path, kind):
    cls, fields, name = OTHERS[kind]
    folder = written(tmp_path / kind, cls, CONFIG_MAPPING[kind](**fields))
    where = profile(cloud={"model": str(folder)})
    for command in (["run", "cloud_baseline"], ["check-dtype", "--load"]):
        done = specbench(*command, "--profile", where)
        assert done.code == ExitCode.MODEL, done.err
        said = " ".join(done.err.split())
        assert f"({kind}) is {name}, and specbench runs decoder-only models" in said
        assert "fetch the model again" not in said


def test_a_decoder_of_an_architecture_that_has_encoders_is_taken(tmp_path):
    config = CONFIG_MAPPING["bert"](**SMALL_BERT, is_decoder=True, initializer_range=0.3)
    folder = written(tmp_path, "BertLMHeadModel", config)
    assert CloudModel(CloudSpec(model=str(folder), device="cpu")).engine.kind == "eager"


def test_a_model_that_reads_in_both_directions_is_refused_whatever_its_config_says(tmp_path):
    config = CONFIG_MAPPING["gemma"](**TEXT, use_bidirectional_attention=True)
    folder = written(tmp_path, "GemmaForCausalLM", config)
    with pytest.raises(SpecbenchError, match="reads its text in both directions") as caught:
        _ = CloudModel(CloudSpec(model=str(folder), device="cpu")).engine
    assert caught.value.exit_code == ExitCode.MODEL


def test_a_model_whose_parts_need_a_package_names_it(tmp_path):
    config = CONFIG_MAPPING["llava"](**MULTIMODAL["llava"])
    folder = written(tmp_path, "LlavaForConditionalGeneration", config)
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    fields["vision_config"] = {"model_type": "timm_wrapper", "architecture": "resnet18"}
    path.write_text(json.dumps(fields))
    if transformers.utils.is_timm_available():
        pytest.skip("timm is installed")
    with pytest.raises(SpecbenchError, match=r"the llava model cannot be built: .*requires") as caught:
        meta_model(CloudModel(CloudSpec(model=str(folder), device="cpu")).config, "float32")
    assert caught.value.hint.startswith("pip install")
