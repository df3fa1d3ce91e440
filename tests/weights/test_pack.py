"""A small copy of the data: of the size that was asked for, the same pictures, and as good for pools and weights."""

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from vrestore.errors import ConfigError
from vrestore.priors import find_prior
from vrestore.weights.recipe.__main__ import main
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.export import export
from vrestore.weights.recipe.fit import fit
from vrestore.weights.recipe.footage import decoded
from vrestore.weights.recipe.judge import load_sequences
from vrestore.weights.recipe.pack import pack
from vrestore.weights.recipe.pool import PoolConfig, build_pool
from vrestore.weights.recipe.train import TrainConfig, restoring


def size(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def mib(data):
    """Room for most of the data."""
    return 0.95 * size(data) / 2**20


@pytest.fixture(scope="module")
def packed(data, mib, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    said = []
    pack(data, folder, mib, said.append)
    assert said == [f"2 photographs, 1 of 1 clips, {size(folder) / 2**20:.1f} MiB"]
    return folder


def test_it_has_the_size_that_was_asked_for(data, packed, mib):
    assert 0 < size(packed) <= mib * 2**20


def test_photographs_are_the_same_but_for_their_size(data, packed):
    found = sorted((packed / "stills").iterdir())
    assert [p.name for p in found] == ["0.png.jpg", "1.png.jpg"]
    for path in found:
        small, whole = cv2.imread(str(path)), cv2.imread(str(data / "stills" / path.stem))
        assert small.shape[0] <= whole.shape[0]
        alike = cv2.resize(whole, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert cv2.PSNR(small, alike) > 30


def test_footage_begins_as_it_was(data, packed):
    found, whole = (decoded(folder / "clips" / "footage.mp4") for folder in (packed, data))
    assert 12 <= len(found) < len(whole)
    for ours, theirs in zip(found, whole, strict=False):
        np.testing.assert_array_equal(ours, theirs)


def test_no_frame_is_missing_where_a_clip_was_cut(tmp_path):
    """Frames that were encoded out of order are cut where all of them have been shown."""
    (tmp_path / "data" / "clips").mkdir(parents=True)
    (tmp_path / "data" / "stills").mkdir()
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "data" / "stills" / "a.jpg"), rng.integers(0, 256, (64, 64, 3), np.uint8))
    path = tmp_path / "data" / "clips" / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"x264-params": "bframes=3:b-adapt=0:keyint=60"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        wide = rng.integers(0, 256, (48, 200, 3), np.uint8)
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, 2 * i : 2 * i + 64]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pack(tmp_path / "data", tmp_path / "packed", 0.7 * size(tmp_path / "data") / 2**20, lambda line: None)
    found, whole = decoded(tmp_path / "packed" / "clips" / "a.mp4"), decoded(path)
    assert len(whole) == 40
    assert 12 <= len(found) < 40
    for ours, theirs in zip(found, whole, strict=False):
        np.testing.assert_array_equal(ours, theirs)


def test_what_fits_goes_along_as_it_is(data, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), np.uint8)
    (tmp_path / "sequences" / "a").mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "sequences" / "a" / f"{i}.png"), cv2.resize(frame, (460, 260)))
    command = [
        "--threads",
        "1",
        "pack",
        str(data),
        str(tmp_path / "packed"),
        "--mib",
        "50",
        "--sequences",
        str(tmp_path / "sequences"),
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    for path in (data / "stills").iterdir():
        assert (tmp_path / "packed" / "stills" / path.name).read_bytes() == path.read_bytes()
    whole, found = (load_sequences(tmp_path / part)["a"] for part in ("sequences", "packed/sequences"))
    assert found.shape == (2, 3, 256, 448)
    assert torch.equal(found, whole)


def test_what_cannot_be_packed_is_refused(data, packed, tmp_path):
    with pytest.raises(ConfigError, match="is not empty"):
        pack(data, packed, 50.0, print)
    with pytest.raises(ConfigError, match="no photographs"):
        pack(tmp_path, tmp_path / "packed", 50.0, print)
    result = CliRunner().invoke(main, ["--threads", "1", "pack", str(tmp_path), str(tmp_path / "packed")])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: no photographs (*.jpg, *.png) in ")


def test_pools_and_weights_are_made_of_it(packed, build, tmp_path):
    """Pool, training by batches drawn ahead, and export."""
    build_pool(tmp_path / "pool", packed, DIETS["restoration"], PoolConfig(clips=2, size=64, frames=6), 0, print)
    config = TrainConfig(steps=3, decay=1, warmup=1, opening=1, crop=32, batch=6)
    model = fit(restoring(tmp_path / "pool", tmp_path / "run", config, "cpu", build), print, lambda model: "")
    export(model, tmp_path / "run" / "weights", DIETS["restoration"].family)
    prior = find_prior(str(tmp_path / "run" / "weights")).load(torch.device("cpu"), torch.float32)
    assert prior.encode(torch.rand(1, 3, 32, 32)).shape == (1, 4, 4, 4)
