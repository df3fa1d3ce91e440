"""Pictures that move as is known, and the bytes of a video."""

import av
import cv2
import numpy as np
import pytest

SIZE = (48, 64)


def _texture(size, seed=0):
    """A smooth random picture, float (height, width, 3) in 8-bit levels."""
    random = np.random.default_rng(seed)
    picture = sum(
        cv2.resize(random.normal(size=(2 + 2**k, 3 + 2**k, 3)) / 1.4**k, size[::-1], interpolation=cv2.INTER_CUBIC)
        for k in range(2, 6)
    )
    return np.clip(127 + 60 * picture, 0, 255)


def _pan(frames, size=SIZE, step=2.0, seed=0):
    """A texture that moves to the left by ``step`` pixels a frame; time may be any number."""
    canvas = _texture((size[0], size[1] + int(step * frames) + 8), seed)

    def at(moment):
        shift = np.float32([[1, 0, -step * moment], [0, 1, 0]])
        moved = cv2.warpAffine(canvas, shift, size[::-1], flags=cv2.INTER_CUBIC)
        return np.clip(moved, 0, 255).round().astype(np.uint8)

    return at


@pytest.fixture
def texture():
    """texture(size, seed) -> a smooth random picture, float (height, width, 3) in 8-bit levels."""
    return _texture


@pytest.fixture
def pan():
    """pan(frames, size, step, seed) -> a picture at any moment: a texture that moves by ``step`` pixels a frame."""
    return _pan


@pytest.fixture
def moving():
    """moving(frames, ...) -> the pictures of such a pan, uint8 (frames, height, width, 3)."""

    def pictures(frames, **more):
        at = _pan(frames, **more)
        return np.stack([at(n) for n in range(frames)])

    return pictures


@pytest.fixture
def planes():
    """planes(path) -> the bytes of every frame as they are coded."""

    def read(path):
        with av.open(str(path)) as container:
            return [b"".join(map(bytes, frame.planes)) for frame in container.decode(video=0)]

    return read
