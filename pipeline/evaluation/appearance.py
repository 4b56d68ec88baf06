"""What a pixel looks like without any learning: colour, texture and place, for the floors."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Linear sRGB to XYZ under D65 (IEC 61966-2-1).
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# Each row is divided by its sum, the white point, so that grey is exactly a = b = 0.
_RGB_TO_RELATIVE_XYZ = (_RGB_TO_XYZ / _RGB_TO_XYZ.sum(axis=1, keepdims=True)).astype(np.float32)
_EPSILON = 216 / 24389
_KAPPA = 24389 / 27

# Standard deviation of the blur as a share of the shorter side: 2 pixels at 128, 5 at 320.
_BLUR = 1 / 64
_GRADIENT_SIGMA = 1.0


def rgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert sRGB to CIE L*a*b* under D65.

    Args:
        image: sRGB of shape (3, H, W), uint8.

    Returns:
        L* in [0, 100], a* and b* in about [-108, 99], of shape (3, H, W), float32.

    Source: CIE 15:2004; sRGB after IEC 61966-2-1.
    """
    linear = _linear_levels()[image].reshape(3, -1)
    relative = _RGB_TO_RELATIVE_XYZ @ linear
    x, y, z = np.where(relative > _EPSILON, np.cbrt(relative), (_KAPPA * relative + 16) / 116)
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    return lab.reshape(image.shape).astype(np.float32)


def appearance_features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe every pixel by its blurred colour, its texture and its place.

    Args:
        image: sRGB of shape (3, H, W), uint8; or another number of channels C.

    Returns:
        Features of shape (H * W, 6), float32, in row order: blurred L*, a*, b*; the blurred gradient
        magnitude of L*; x and y in [-1, 1], whatever the size of the image. Of shape (H * W, C + 3) for other channels:
        these stand in place of L*, a* and b*, in [0, 100], and the gradient is that of their mean.
    """
    height, width = image.shape[1:]
    if len(image) == 3:
        colours = rgb_to_lab(image)
        light = colours[0]
    else:
        colours = image * np.float32(100 / 255)
        light = colours.mean(axis=0)
    gradient = ndimage.gaussian_gradient_magnitude(light, sigma=_GRADIENT_SIGMA, mode="nearest")
    sigma = _BLUR * min(height, width)
    look = ndimage.gaussian_filter(np.stack([*colours, gradient]), sigma=(0, sigma, sigma), mode="nearest")
    x = np.broadcast_to(_places(width)[None, :], (height, width))
    y = np.broadcast_to(_places(height)[:, None], (height, width))
    return np.stack([*look, x, y], axis=-1).reshape(height * width, -1).astype(np.float32)


def _linear_levels() -> NDArray[np.float32]:
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _places(size: int) -> NDArray[np.float32]:
    centres = (2 * np.arange(size) + 1) / size - 1
    return centres.astype(np.float32)
