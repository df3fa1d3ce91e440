"""Noise that depends on nothing but its place: seed, frame, level, channel and latent pixel.

A window, tile, batch, resume point or device that needs the noise of a place gets the same numbers, whatever else it
asks for. The generator is counter-based: Philox4x32 with 10 rounds (Salmon et al., "Parallel Random Numbers: As Easy
as 1, 2, 3", SC 2011), the key being the seed and the counter the place, so that no two places share a counter.
"""

import math

import numpy as np
import torch

from vrestore.errors import ConfigError
from vrestore.shapes import Latent

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def noise(seed: int, frame: int, level: int, shape: tuple[int, int, int], origin: tuple[int, int] = (0, 0)) -> Latent:
    """Standard normal noise of a latent frame or of a part of it, float32, on the CPU.

    Args:
        seed: 0 to 2**64 - 1.
        frame: absolute position in the latent sequence, 0 to 2**32 - 1.
        level: level that the noise is for, 0 to 65535.
        shape: (channels, height, width) of what is wanted.
        origin: (y, x) of its first latent pixel in the picture, 0 or more.

    Raises:
        ConfigError: seed, frame, level or origin outside its range.
    """
    limits = {"seed": (seed, 1 << 64), "frame": (frame, 1 << 32), "level": (level, 1 << 16)}
    limits |= {"origin y": (origin[0], 1 << 31), "origin x": (origin[1], 1 << 31)}
    for name, (value, limit) in limits.items():
        if not 0 <= value < limit:
            raise ConfigError(f"Noise has no {name} {value}; use 0 to {limit - 1}.")
    channels, height, width = shape
    fours = -(-channels // 4)  # one counter gives four numbers: four channels of one pixel
    counter = (
        np.arange(origin[1], origin[1] + width, dtype=np.uint64),
        np.arange(origin[0], origin[0] + height, dtype=np.uint64)[:, None],
        np.uint64(frame),
        (np.uint64(level << 16) | np.arange(fours, dtype=np.uint64))[:, None, None],
    )
    words = philox(tuple(np.broadcast_arrays(*counter)), (seed & 0xFFFFFFFF, seed >> 32))
    normal = np.empty((fours, 4, height, width), np.float32)
    for pair in (0, 2):
        normal[:, pair], normal[:, pair + 1] = _box_muller(words[pair], words[pair + 1])
    return torch.from_numpy(normal.reshape(4 * fours, height, width)[:channels].copy())


def chosen(seed: int, frame: int, level: int, layer: int, tokens: int, count: int) -> np.ndarray:
    """Some of a frame's tokens, drawn without repeats: int64 (count,), ascending.

    Args:
        seed, frame, level: as in `noise`, which draws other numbers.
        layer: of the network, 0 to 65535.
        tokens: how many there are.
        count: how many are wanted, at most ``tokens``.
    """
    counter = (np.arange(tokens, dtype=np.uint64), _MASK, np.uint64(frame), np.uint64(level << 16 | layer))
    words = philox(tuple(np.broadcast_arrays(*counter)), (seed & 0xFFFFFFFF, seed >> 32))[0]
    return np.sort(np.argsort(words, kind="stable")[:count])


def philox(counter: tuple[np.ndarray, ...], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Philox4x32-10: four random words for each counter.

    Args:
        counter: four arrays of one shape, uint64 holding 32-bit words.
        key: two 32-bit words.

    Returns:
        Four arrays of that shape, uint64 holding 32-bit words.
    """
    a, b, c, d = counter
    for i in range(10):
        k0, k1 = (np.uint64((word + i * weyl) & 0xFFFFFFFF) for word, weyl in zip(key, _WEYL, strict=True))
        p, q = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (q >> _HALF) ^ b ^ k0, q & _MASK, (p >> _HALF) ^ d ^ k1, p & _MASK
    return a, b, c, d


def _box_muller(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two independent standard normal numbers from two 32-bit words (Box and Muller, 1958).

    float64 inside, so that the last bit of a processor's sine does not reach the float32 result.
    """
    radius = np.sqrt(-2.0 * np.log((u + 0.5) * 2.0**-32))
    angle = (v + 0.5) * (2.0 * math.pi * 2.0**-32)
    return radius * np.cos(angle), radius * np.sin(angle)
