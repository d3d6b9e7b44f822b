"""What is in the files of images and sounds; they may come from anybody, so what is read of them is limited."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specbench.errors import SpecbenchError, first_line

if TYPE_CHECKING:
    import numpy as np

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Those that Pillow itself decodes: for others, such as EPS, it starts programs."""
MOST_PIXELS = 50_000_000
"""Of all images of a prompt together."""
LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000
"""Samples a second of a sound."""


def pictures(files: Sequence[bytes]) -> list[Any]:
    """Images from the bytes of their files, turned as their cameras say.

    Raises:
        SpecbenchError: one is damaged or of another format, or they are too large together.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        opened = [Image.open(io.BytesIO(data), formats=FORMATS) for data in files]  # reads no pixels yet
        pixels = sum(image.width * image.height for image in opened)
        if pixels <= MOST_PIXELS:
            return [ImageOps.exif_transpose(image).convert("RGB") for image in opened]
    except UnidentifiedImageError as error:
        raise SpecbenchError(
            "a file is no image, or of another format than " + ", ".join(FORMATS), "save it as PNG or JPEG"
        ) from error
    except Exception as error:  # it raises whatever a file's decoder does
        raise SpecbenchError(
            f"an image cannot be read: {first_line(error)}", "save it again, as PNG or JPEG"
        ) from error
    raise SpecbenchError(
        f"the images have {pixels:,} pixels together; at most {MOST_PIXELS:,} are read", "make them smaller"
    )


def sound(data: bytes, rate: int) -> np.ndarray:
    """A sound from the bytes of its WAV file: one channel in float32, `rate` samples a second.

    Raises:
        SpecbenchError: it is no WAV file, or holds no sound.
    """
    import numpy as np
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        own_rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # it raises whatever it meets
        raise SpecbenchError(f"this is no WAV file: {first_line(error)}", "save it as WAV (PCM)") from error
    if not len(samples):
        raise SpecbenchError("this WAV file is empty", "save it again")
    if not LOWEST_RATE <= own_rate <= HIGHEST_RATE:
        raise SpecbenchError(
            f"this WAV file has {own_rate} samples a second; {LOWEST_RATE} to {HIGHEST_RATE} are read",
            f"save it with {rate}",
        )
    wave = samples.astype(np.float64)
    if samples.dtype.kind in "iu":
        wave /= 2.0 ** (8 * samples.dtype.itemsize - 1)
        wave -= samples.dtype.kind == "u"  # eight bits have no sign: silence is 128
    common = math.gcd(rate, own_rate)
    with np.errstate(all="ignore"):
        if wave.ndim > 1:
            wave = wave.mean(axis=1)
        found = np.asarray(resample_poly(wave, rate // common, own_rate // common), dtype=np.float32)
    if not np.isfinite(found).all():
        raise SpecbenchError("this WAV file has samples that are no finite numbers", "save it again")
    return found
