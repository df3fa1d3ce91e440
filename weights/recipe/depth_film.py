"""What a camera and a file make of the pictures of the world with depth."""

import cv2
import numpy as np

from vrestore.weights.recipe.depth_build import Rng
from vrestore.weights.recipe.depth_world import Bytes, Floats


def as_filmed(rng: Rng, pictures: Bytes) -> Bytes:
    """Exposure, colour, noise, softness, the blocks of a codec and a border, alike in all frames of a clip."""
    light = _developed(rng, pictures.astype(np.float32) / 255)
    sigma, noise = rng.exponential(0.45), rng.exponential(0.015) if rng.random() < 0.7 else 0.0
    quality = int(rng.integers(25, 96)) if rng.random() < 0.4 else 0
    border, colour = int(rng.integers(1, 9)) if rng.random() < 0.08 else 0, int(rng.choice([0, 255]))
    found = []
    for picture in light:
        seen = cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.3 else picture
        seen = seen + noise * rng.standard_normal(seen.shape, np.float32)
        codes = np.clip(seen * 255 + 0.5, 0, 255).astype(np.uint8)
        if border:  # as straightened pictures have one
            codes[:border] = codes[-border:] = codes[:, :border] = codes[:, -border:] = colour
        if quality:
            codes = cv2.imdecode(cv2.imencode(".jpg", codes, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        found.append(codes)
    return np.stack(found)


def _developed(rng: Rng, light: Floats) -> Floats:
    """Pictures (t, h, w, 3) in [0, 1] under uneven light, with some camera's exposure, colour and contrast: lights and
    darks may be lost.
    """
    gain = np.exp(rng.normal(-0.1, 0.4)) * np.exp(rng.normal(0, 0.1, 3))
    gamma, lift = np.exp(rng.normal(0.05, 0.25)), rng.uniform(0, 0.06)
    height, width = light.shape[1:3]
    uneven = cv2.resize(rng.normal(0, 1, (3, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    shade = np.exp(rng.exponential(0.15) * uneven) * (1 - rng.exponential(0.12) * (x**2 + y**2) / 2)
    light = np.clip(light * gain * shade[..., None], 0, 1) ** gamma
    grey = light.mean(-1, keepdims=True)
    light = np.clip(grey + np.clip(rng.normal(0.8, 0.25), 0, 1.6) * (light - grey), 0, 1)
    if rng.random() < 0.5:  # an S-shaped curve
        share = rng.uniform(0, 0.8)
        light = (1 - share) * light + share * light**2 * (3 - 2 * light)
    return np.asarray(light * (1 - lift) + lift, np.float32)
