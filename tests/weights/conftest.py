"""Photographs, footage, a tiny pool and tiny networks for the tests of the training recipe."""

import av
import cv2
import numpy as np
import pytest

from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder
from vrestore.weights.recipe.arrays import opened
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.pool import PoolConfig, build_pool
from vrestore.weights.recipe.train import Restorer

POOL = PoolConfig(clips=2, size=64, frames=6, seed=3)
"""Windows of six frames are the longest that training draws."""


def photograph(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_video(path, frames):
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def pool_config():
    return POOL


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data folder: two photographs, and soft footage at twice the size, ten frames longer than a pool's clip."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "stills").mkdir()
    (folder / "clips").mkdir()
    for seed in range(2):
        cv2.imwrite(str(folder / "stills" / f"{seed}.png"), photograph(seed, 240, 320))
    narrow = photograph(9, POOL.size, POOL.size + 40)
    wide = cv2.resize(narrow, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    views = [wide[:, 4 * i : 4 * i + 2 * POOL.size].copy() for i in range(POOL.frames + 10)]
    write_video(folder / "clips" / "footage.mp4", views)
    return folder


@pytest.fixture(scope="session")
def pool_folders(data, tmp_path_factory):
    """A tiny pool of every diet."""
    folders = {}
    for name, diet in DIETS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        build_pool(folders[name], data, diet, POOL, 0, lambda line: None)
    return folders


@pytest.fixture(scope="session")
def pool_folder(pool_folders):
    return pool_folders["restoration"]


@pytest.fixture
def pool(pool_folder):
    return opened(pool_folder)


@pytest.fixture
def build():
    """Makes new tiny networks."""

    def restorer():
        return Restorer(
            GuidedAutoencoder(latent_channels=4, width=8, latent_width=8, decoder_blocks=1),
            BridgeVideoDenoiser(latent_channels=4, width=8, deep_width=8, depth=(1, 1, 2)),
        )

    return restorer
