import numpy as np
import pytest
from PIL import Image

from vrestore.errors import ConfigError, OutputError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video import detect_shots, open_reader, probe, write_still
from vrestore.video.shots import Shot


def one(path):
    with open_reader(path) as reader:
        (frame,) = reader.frames()
    assert (frame.index, frame.pts) == (0, 0)
    return frame.rgb


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((3, 15, 22), np.float32)


@pytest.mark.parametrize(("name", "bits"), [("a.png", 8), ("a.png", 16), ("a.tif", 16), ("a.bmp", 8), ("a.tiff", 8)])
def test_lossless_pictures_come_back_to_the_last_bit(tmp_path, picture, name, bits):
    write_still(tmp_path / name, picture, bit_depth=bits)
    info = probe(tmp_path / name)
    assert (info.width, info.height, info.frames, info.is_still, info.bit_depth) == (22, 15, 1, True, bits)
    top = 2**bits - 1
    np.testing.assert_array_equal(np.rint(one(tmp_path / name) * top), np.floor(picture * np.float32(top) + 0.5))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_lossy_pictures_come_back_close(tmp_path, name):
    y, x = np.mgrid[0:30, 0:40].astype(np.float32) / 40
    rgb = np.stack([x, y, 1 - x])
    write_still(tmp_path / name, rgb, bit_depth=16)  # 16 bits fall back to 8 where there are no more
    assert probe(tmp_path / name).bit_depth == 8
    assert np.abs(one(tmp_path / name) - rgb).mean() < 0.02


def test_gray_palette_and_transparent_pictures(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for mode in ("L", "P", "LA", "RGBA"):
        Image.fromarray(ramp).convert(mode).save(tmp_path / f"{mode}.png")
        rgb = one(tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(np.rint(rgb * 255), np.tile(ramp, (3, 1, 1)))


def test_a_photograph_is_turned_as_it_says(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100)
    info = probe(tmp_path / "a.jpg")
    assert (info.width, info.height) == (8, 16)
    rgb = one(tmp_path / "a.jpg")
    assert rgb.shape == (3, 16, 8)
    assert rgb[:, :7].min() > 0.9
    assert rgb[:, 9:].max() < 0.1


def test_a_still_is_one_shot(tmp_path, picture):
    write_still(tmp_path / "a.png", picture)
    assert detect_shots(tmp_path / "a.png", 0, 1) == [Shot(0, 1)]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_truncated_picture(tmp_path, picture, name):
    write_still(tmp_path / name, np.tile(picture, (1, 4, 4)))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableMediaError, match="not a readable picture") as caught:
        probe(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedMediaError, match="animation"):
        probe(tmp_path / "a.webp")


def test_what_cannot_be_written(tmp_path, picture):
    with pytest.raises(ConfigError, match="does not end like a picture"):
        write_still(tmp_path / "a.mp4", picture)
    with pytest.raises(ConfigError, match="bit depth 12"):
        write_still(tmp_path / "a.png", picture, bit_depth=12)
    with pytest.raises(OutputError, match="does not exist"):
        write_still(tmp_path / "no" / "a.png", picture)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_still(tmp_path / "taken.png", picture)
