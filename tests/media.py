"""Tiny random models that read images or sounds, each with its processor, and files to show them."""

import json

import numpy as np
from scipy.io import wavfile

from specbench.testing import tiny_llama, tiny_tokenizer

IMAGE_TOKEN, AUDIO_TOKEN = 94, 95
VOCABULARY = 96
RATE = 16_000
TEMPLATE = """
{%- for message in messages %}<|{{ message.role }}|>
{%- if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}PICTURE{% elif part.type == 'audio' %}SOUND{% else %}{{ part.text }}{% endif %}
{%- endfor %}{% endif %}<|end|>
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}
""".strip()


def tokenizer():
    """Of single characters, with a token for parts of images and one for those of sounds."""
    made = tiny_tokenizer(VOCABULARY)
    names = made.convert_ids_to_tokens([IMAGE_TOKEN, AUDIO_TOKEN])
    made.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", *names]})
    made.chat_template = TEMPLATE.replace("PICTURE", names[0]).replace("SOUND", names[1])
    return made


def text_draft(folder, seed=8):
    """A draft of text alone, with that tokenizer."""
    tiny_llama(folder, seed=seed, vocab_size=VOCABULARY)
    tokenizer().save_pretrained(folder)
    return folder


def tiny_llava(folder, seed=4, shaken=0.0):
    """A LLaVA whose images take four tokens."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    known = tokenizer()
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images,
        known,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=known.convert_ids_to_tokens(IMAGE_TOKEN),
        chat_template=known.chat_template,
    )
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "initializer_range": 0.3,
    }  # fmt: skip
    return _written(folder, "llava", processor, seed, shaken, vision_config=vision, image_token_id=IMAGE_TOKEN)


def tiny_qwen2_audio(folder, seed=4, shaken=0.0):
    """A Qwen2-Audio whose sounds take at most 25 tokens a second."""
    from transformers import Qwen2AudioProcessor, WhisperFeatureExtractor

    known = tokenizer()
    processor = Qwen2AudioProcessor(
        WhisperFeatureExtractor(feature_size=16, chunk_length=1),
        known,
        audio_token=known.convert_ids_to_tokens(AUDIO_TOKEN),
        chat_template=known.chat_template,
    )
    audio = {
        "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
        "num_mel_bins": 16, "max_source_positions": 50, "init_std": 0.3,
    }  # fmt: skip
    return _written(
        folder, "qwen2_audio", processor, seed, shaken, audio_config=audio, audio_token_id=AUDIO_TOKEN
    )


def _written(folder, name, processor, seed, shaken, **fields):
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForMultimodalLM

    text = {
        "model_type": "llama" if name == "llava" else "qwen2", "vocab_size": VOCABULARY, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[name](text_config=text, **fields)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, 1, 0
    model = AutoModelForMultimodalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights += shaken * weights.std() * torch.randn_like(weights)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_picture(path, seed):
    """A picture of noise."""
    from PIL import Image

    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path, "PNG")
    return path


def write_sound(path, seed, seconds=0.4, rate=RATE):
    """A tone, in 16 bits."""
    wave = 9000 * np.sin(2 * np.pi * 700 * seed * np.arange(int(seconds * rate)) / rate)
    wavfile.write(path, rate, wave.astype(np.int16))
    return path


def write_prompts(path, *turns_of_prompts):
    """A prompts file with these turns."""
    lines = [
        json.dumps({"question_id": number, "category": "c", "turns": turns})
        for number, turns in enumerate(turns_of_prompts, start=1)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
