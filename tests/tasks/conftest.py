"""Pictures that move as is known, the bytes of a video, and settings with small priors."""

import av
import cv2
import numpy as np
import pytest
import torch

SIZE = (48, 64)
FILM = (24, 40)


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


@pytest.fixture
def settings(tiny_edit):
    """Those of an edit with a small prior."""
    return {
        "prior": str(tiny_edit), "prompt": "a sharp stone", "steps": 2, "strength": 0.5, "window": 5, "overlap": 2,
        "device": "cpu", "dtype": "float32", "guidance_scale": 2.0,
    }  # fmt: skip


@pytest.fixture
def film(clips, tmp_path):
    """Seven frames of 24 x 40 pixels."""
    return clips.write(tmp_path / "in.mkv", clips.scene(7, FILM))


@pytest.fixture
def half_mask(clips):
    """half_mask(path, frames) -> a mask for `film`, white on the right half."""

    def write(path, frames=1):
        mask = np.zeros((frames, *FILM, 3), np.uint8)
        mask[:, :, FILM[1] // 2 :] = 255
        return clips.write(path, mask)

    return write


@pytest.fixture(scope="module")
def generation_folder(small_priors, tmp_path_factory):
    """In the layout of AnimateDiff: windows of eight frames of 32x32 pixels."""
    folder = tmp_path_factory.mktemp("priors") / "tiny-generation"
    with torch.random.fork_rng():
        torch.manual_seed(9)
        small_priors.save_text(folder)
        small_priors.small_vae(4, 0.18215).save_pretrained(folder / "vae")
        small_priors.small_unet(4, None).save_pretrained(folder / "unet")
        small_priors.small_adapter().save_pretrained(folder / "motion_adapter")
    small_priors.save_scheduler(folder / "scheduler", timestep_spacing="trailing", **small_priors.DDIM)
    small_priors.save_index(folder, "AnimateDiffPipeline")
    return folder


@pytest.fixture
def usual(generation_folder):
    """Those of a generation with a small prior."""
    return {
        "prior": str(generation_folder), "prompt": "a stone", "steps": 2, "width": 32, "height": 32,
        "guidance_scale": 1.0, "device": "cpu", "dtype": "float32",
    }  # fmt: skip
