"""Files of images and sounds, as they may come from anybody, and the processor that reads them."""

import io
import json

import pytest
from media import RATE, tokenizer

from specbench.errors import SpecbenchError
from specbench.models import files as model_files
from specbench.models.media import reader_of
from specbench.models.media_files import pictures, sound
from specbench.testing import tiny_llama


def saved(image, form, **settings):
    """The bytes of an image's file."""
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def wav(samples, rate=RATE):
    """The bytes of a sound's file."""
    from scipy.io import wavfile

    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def test_a_damaged_file_is_named():
    with pytest.raises(SpecbenchError, match="this is no WAV file"):
        sound(b"RIFF and then nothing", RATE)
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(SpecbenchError, match="a file is no image"):
        pictures([b"not an image"])
    whole = saved(image.effect_noise((64, 64), 50), "PNG")
    with pytest.raises(SpecbenchError, match="an image cannot be read"):
        pictures([whole, whole[: len(whole) // 2]])


def test_a_format_for_which_pillow_starts_a_program_is_not_opened():
    pytest.importorskip("PIL")
    with pytest.raises(SpecbenchError, match="of another format than PNG"):
        pictures([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_the_formats_that_are_named_are_read(form):
    image = pytest.importorskip("PIL.Image")
    (found,) = pictures([saved(image.new("RGB", (20, 10), "red"), form)])
    assert (found.mode, found.size) == ("RGB", (20, 10))
    assert found.getpixel((5, 5))[0] > 200


def test_images_with_too_many_pixels_together_are_refused_before_they_are_decoded():
    image = pytest.importorskip("PIL.Image")
    large = saved(image.new("1", (6000, 5000)), "PNG")
    with pytest.raises(SpecbenchError, match="60,000,000 pixels together"):
        pictures([large, large])


def test_an_image_is_turned_as_its_camera_says():
    image = pytest.importorskip("PIL.Image")
    taken = image.new("RGB", (40, 20), "blue")
    taken.paste("red", (0, 0, 20, 20))
    exif = image.Exif()
    exif[0x0112] = 6  # its left edge is the upper one
    (seen,) = pictures([saved(taken, "JPEG", exif=exif)])
    assert seen.size == (20, 40)
    assert seen.getpixel((10, 5))[0] > 200 > seen.getpixel((10, 35))[0]


@pytest.mark.parametrize("rate", [0, 1, 3_999, 384_001])
def test_a_rate_at_which_nobody_records_is_refused(rate):
    import numpy as np

    with pytest.raises(SpecbenchError, match=f"has {rate} samples a second"):
        sound(wav(np.zeros(100, dtype=np.int16), rate), RATE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_samples_that_are_no_finite_numbers_are_refused(value):
    import numpy as np

    samples = np.zeros(100)
    samples[50] = value
    with pytest.raises(SpecbenchError, match="no finite numbers"):
        sound(wav(samples, 44_100), RATE)


def test_a_sound_is_read_at_the_models_rate_in_one_channel():
    import numpy as np

    at = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * at)
    for samples in (
        tone.astype(np.float32),
        (tone * 32767).astype(np.int16),
        (tone * 127 + 128).astype(np.uint8),
    ):
        read = sound(wav(np.stack([samples, samples], axis=1), 44_100), RATE)
        wanted = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
        assert read.dtype == np.float32
        assert np.abs(read[100:-100] - wanted[100:-100]).max() < 0.02


OWN = """
class Own:
    image_token = "<own>"

    @classmethod
    def register_for_auto_class(cls):
        pass

    @classmethod
    def from_pretrained(cls, *_, **__):
        return cls()
"""


def test_a_processor_with_code_of_its_own_runs_only_where_the_profile_trusts_it(tmp_path):
    tiny_llama(tmp_path, seed=1)
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "processing_own.py").write_text(OWN)
    own = {"auto_map": {"AutoProcessor": "processing_own.Own"}, "processor_class": "Own"}
    (tmp_path / "processor_config.json").write_text(json.dumps(own))
    with pytest.raises(SpecbenchError) as refused:
        reader_of(tmp_path)
    assert refused.value.hint == model_files.TRUST
    assert reader_of(tmp_path, trust_remote_code=True).placeholder("image") == "<own>"
