"""Turns the bytes of an image file into RGB, or refuses them with a reason."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # closed: Pillow's other readers may start programs
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".npy")

_UNTURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of odd metadata and of bombs; the first does no harm, the second is refused here. A filter for the
# whole process, because `warnings.catch_warnings` is not safe in the threads that decode.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """The bytes are no image that can be used; the text is a short reason."""


def decode_image(data: bytes, *, max_pixels: int, min_side: int) -> NDArray[np.uint8]:
    """Decode an image file to RGB, the right way up; of an animation the first frame.

    Grey becomes three equal channels. Transparent pixels are laid over white. CMYK and other colour models are
    converted by Pillow; colour profiles are not applied. 16 bits become 8 by rounding value / 257 (colour PNG:
    Pillow keeps the high byte), and 32-bit integers are taken for 16-bit values. Floating-point values that all lie
    within 0..1 are multiplied by 255, others are clipped to 0..255; NaN is black.

    Args:
        data: The bytes of a JPEG, PNG, BMP, GIF, WebP or TIFF file.
        max_pixels: Larger images are refused before they are decoded.
        min_side: Images with a shorter side, in pixels, are refused before they are decoded.

    Returns:
        uint8 array (H, W, 3), after the EXIF orientation was applied.

    Raises:
        BadImage: For any bytes that are not such an image; nothing else is raised whatever the bytes.
    """
    if not data:
        raise BadImage("empty file")
    # Pillow's own limit also covers what is not seen from outside, such as tiles larger than their image
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise BadImage(f"too many pixels (more than {max_pixels})")
            if min(width, height) < min_side:
                raise BadImage(f"too small ({width} x {height}, shorter side below {min_side})")
            image.load()
            return _to_rgb(turn_upright(image))
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f"too many pixels (more than {max_pixels})") from None
    except Exception as error:  # damaged files make Pillow raise nearly every kind of exception
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise BadImage("truncated") from None
        text = " ".join(str(error).split())[:80]
        raise BadImage(f"damaged ({type(error).__name__}: {text})") from None


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or the metadata are damaged."""
    try:
        orientation = image.getexif().get(Base.Orientation, 1)
    except Exception:  # damaged metadata, whole picture
        return 1
    return orientation if orientation in _UNTURN else 1


def turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation."""
    # not `ImageOps.exif_transpose`: it also rewrites the metadata, and fails where those are damaged
    orientation = read_orientation(image)
    return image if orientation == 1 else image.transpose(_UNTURN[orientation])


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return _as_grey((values + 128) // 257)
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if levels.min() >= 0.0 and levels.max() <= 1.0 else 1.0
        return _as_grey(np.clip(np.rint(levels * scale), 0, 255))
    if image.has_transparency_data:
        # from premultiplied alpha there is no direct way to RGBA
        straight = image.convert("LA") if image.mode == "La" else image
        layer = straight.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def _as_grey(levels: np.ndarray) -> NDArray[np.uint8]:
    return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)
